// Every page: it opens alone and in silence, fits a desk and a phone, and axe-core finds nothing serious, in light and dark.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { MADE, THEMES, VIEWS, launch, made, open, shoot } from "./browser.mjs";
import { labels, overhanging } from "./look.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const GRAVE = ["serious", "critical"];

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser.close(); });

async function accessibility(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate((values) => globalThis.axe.run(document, { runOnly: { type: "tag", values }, resultTypes: ["violations"] }), TAGS);
  return violations.filter((each) => GRAVE.includes(each.impact)).map((each) => {
    const first = each.nodes[0];
    return `${each.impact} ${each.id} (${each.nodes.length} places): ${each.help}; ${first.target.join(" ")}: ${first.failureSummary.replace(/\s+/g, " ").slice(0, 300)}`;
  });
}

for (const { name } of MADE.pages.filter((each) => each.file.endsWith(".html"))) {
  describe(name, () => {
    for (const [view, viewport] of Object.entries(VIEWS)) {
      for (const colorScheme of THEMES) {
        test(`${name}, ${view}, ${colorScheme}`, async (t) => {
          const { page, context, complaints } = await open(browser, made(name).file, { viewport, colorScheme, hasTouch: view === "phone", isMobile: view === "phone" });
          t.after(() => context.close());
          await shoot(page, `${name}-${view}-${colorScheme}`, t);
          const shown = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((sum, each) => sum + Number(each), 0));
          assert.equal(shown < 384, colorScheme === "dark", `the paper is ${shown} of 765 bright`);
          const [wide, inner] = await page.evaluate(() => [document.scrollingElement.scrollWidth, innerWidth]);
          assert.ok(wide <= inner && wide <= viewport.width, `${wide} pixels wide in a window of ${viewport.width}: ${(await page.evaluate(overhanging)).join("\n")}`);
          assert.deepEqual(await page.evaluate(labels), [], "labels");
          assert.deepEqual(await accessibility(page), [], "axe-core");
          assert.deepEqual(complaints, []);
        });
      }
    }

    test(`${name} on paper`, async (t) => {
      const { page, context, complaints } = await open(browser, made(name).file);
      t.after(() => context.close());
      await page.emulateMedia({ media: "print" });
      assert.equal(await page.locator("#theme").isVisible(), false, "a button for the theme is of no use on paper");
      const words = await page.locator("main").innerText();
      assert.ok(words.trim().length > 200, `only ${words.trim().length} letters are printed`);
      assert.deepEqual(complaints, []);
    });
  });
}

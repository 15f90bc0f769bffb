// Every picture of its own: well-formed XML that a browser opens as a document, in light and dark, with no label cut or covered.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { MADE, THEMES, launch, made, open, shoot } from "./browser.mjs";
import { labels } from "./look.mjs";

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser.close(); });

for (const { name } of MADE.pages.filter((each) => each.file.endsWith(".svg"))) {
  for (const colorScheme of THEMES) {
    test(`${name}, ${colorScheme}`, async (t) => {
      const { page, context, complaints } = await open(browser, made(name).file, { colorScheme });
      t.after(() => context.close());
      const found = await page.evaluate(() => ({
        box: document.documentElement.viewBox?.baseVal && [document.documentElement.viewBox.baseVal.width, document.documentElement.viewBox.baseVal.height],
        root: document.documentElement.localName,
        space: document.documentElement.namespaceURI,
        broken: document.querySelector("parsererror")?.textContent ?? "",
        named: document.documentElement.querySelector(":scope > title")?.textContent ?? document.documentElement.getAttribute("aria-label") ?? "",
        ids: [...document.querySelectorAll("[id]")].map((each) => each.id).filter((id, place, all) => all.indexOf(id) !== place),
        scripts: document.querySelectorAll("script, foreignObject, image, a, use").length,
        wrong: [...document.querySelectorAll("*")].flatMap((each) => [...each.attributes].filter((a) => /NaN|Infinity|undefined|None/.test(a.value)).map((a) => `${each.localName} ${a.name}=${a.value}`)),
      }));
      await page.setViewportSize({ width: Math.ceil(found.box[0]), height: Math.ceil(found.box[1]) });
      await shoot(page, `${name}-${colorScheme}`, t, {});
      assert.equal(found.broken, "");
      assert.equal(`${found.space} ${found.root}`, "http://www.w3.org/2000/svg svg");
      assert.ok(found.named.trim(), "a picture has a name");
      assert.deepEqual(found.ids, [], "an id stands twice");
      assert.equal(found.scripts, 0, "a picture holds nothing that acts");
      assert.deepEqual(found.wrong, [], "a coordinate is no number");
      assert.deepEqual(await page.evaluate(labels), [], "labels");
      assert.deepEqual(complaints, []);
    });
  }
}

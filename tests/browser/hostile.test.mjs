// A checkpoint whose names and values are markup and scripts: nothing of them runs, whatever one does with the page.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { MADE, launch, made, open } from "./browser.mjs";
import { find, found } from "./hands.mjs";

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser.close(); });

/** What in a page acts or could: a count of its own scripts and of everything that loads or runs. */
const acting = () => ({
  hit: String(globalThis.__hit),
  scripts: document.querySelectorAll("script:not([type='application/json'])").length,
  loads: document.querySelectorAll("img, iframe, object, embed, link, foreignObject, image, base, form").length,
  handlers: [...document.querySelectorAll("*")].filter((each) => [...each.attributes].some((a) => /^on/i.test(a.name))).length,
  links: [...document.querySelectorAll("a[href]")].map((each) => each.getAttribute("href")).filter((href) => /^\s*(javascript|data|vbscript):/i.test(href)),
});
const CALM = { hit: "undefined", scripts: 1, loads: 0, handlers: 0, links: [] };

for (const { name, file } of MADE.pages.filter((each) => /hostile|nameless/.test(each.name))) {
  test(`nothing runs in ${name}`, async (t) => {
    const { page, context, complaints } = await open(browser, made(name).file);
    t.after(() => context.close());
    const calm = file.endsWith(".svg") ? { ...CALM, scripts: 0 } : CALM;
    await page.waitForTimeout(300);
    assert.deepEqual(await page.evaluate(acting), calm);
    if (name.startsWith("report-")) await useAll(page);
    assert.deepEqual(await page.evaluate(acting), calm);
    assert.deepEqual(complaints, []);
  });
}

/** Every result of the search, every copy button, every cell of the map, every cut. */
async function useAll(page) {
  for (const words of ["<img", "script", "onload", "javascript:", "${", "]]>", "w1"]) {
    await find(page, words);
    for (const result of (await found(page)).slice(0, 4)) {
      await page.locator("#search-results button").filter({ hasText: result }).first().click();
      assert.ok((await page.locator("#tensor").innerText()).includes(result), `${result} is not shown as it is named`);
    }
  }
  for (const button of await page.locator("button.copy:visible").all()) await button.click();
  for (const cell of await page.locator("#map .cell").all()) await cell.hover({ force: true });
  for (const reader of await page.locator("#runtime option").allInnerTexts()) {
    await page.locator("#runtime").selectOption(reader);
    for (const slider of ["#tp", "#ep"]) await page.locator(slider).press("End");
  }
}

test("a name in the address is text, too", async (t) => {
  const { page, context, complaints, url } = await open(browser, made("report-hostile").file);
  t.after(() => context.close());
  await page.goto(`${url}#t=${encodeURIComponent("<img src=x onerror=window.__hit=8>")}`);
  await page.goto(`${url}#%E0%A4%A`);
  await page.waitForTimeout(200);
  assert.deepEqual(await page.evaluate(acting), CALM);
  assert.deepEqual(complaints, []);
});

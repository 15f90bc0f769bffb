// The report in use: search, the sliders, copied fixes, the map, the theme, the keyboard alone, paper, and no JavaScript at all.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { MADE, OUT, VIEWS, launch, made, open, shoot } from "./browser.mjs";
import { copied, drag, find, found, has, press, printedFixes, says } from "./hands.mjs";

const DEEP = "layers.61.block_sparse_moe.experts.255.w2";

let browser;
before(async () => { browser = await launch(); });
after(async () => { await browser.close(); });

/** The test gets the opened page, and fails when that complained of anything. */
function onPage(title, name, options, act) {
  test(title, async (t) => {
    const { page, context, complaints } = await open(browser, made(name).file, options);
    t.after(() => context.close());
    await act({ page, context, t, beside: MADE.beside[name] });
    assert.deepEqual(complaints, []);
  });
}

const tp = (page) => page.locator("#tp-value").innerText();

onPage("search finds one of 96,103 tensors, and choosing it shows file, scale and way", "report-m2", {}, async ({ page, beside, t }) => {
  assert.equal(await find(page, DEEP), 2);
  const names = [`model.${DEEP}.weight`, `model.${DEEP}.weight_scale_inv`];
  assert.deepEqual((await found(page)).sort(), names);
  await page.locator("#search-results button", { hasText: /\.weight$/ }).click();
  const told = await page.locator("#tensor").innerText();
  const { tensor, trace } = beside.deep;
  assert.equal(tensor.name, names[0]);
  for (const fact of [tensor.name, tensor.dtype, tensor.file, names[1]]) assert.ok(told.includes(fact), `${fact} is not in\n${told}`);
  assert.match(told, new RegExp(tensor.shape.join("\\D{1,3}")));
  for (const step of trace.steps) assert.ok(told.includes(step.op), `the step ${step.op} is not in\n${told}`);
  for (const end of trace.destination) assert.ok(told.includes(end.name), `the destination ${end.name} is not in\n${told}`);
  await shoot(page, "report-m2-tensor", t);
});

for (const name of ["report-m2", "report-demo", "report-faulty", "report-nameless"]) {
  onPage(`search counts as Python does, ${name}`, name, {}, async ({ page, beside }) => {
    for (const [words, many] of Object.entries(beside.counts)) assert.equal(await find(page, words), many, `names with ${JSON.stringify(words)}`);
    if (beside.tensors === null) return;
    assert.equal(await find(page, "w2"), beside.counts.w2);
    assert.deepEqual((await found(page)).sort(), beside.tensors.filter((each) => each.includes("w2")));
  });
}

for (const [how, move] of [
  ["with arrow keys", async (page) => {
    await page.locator("#tp").focus();
    await page.keyboard.press("Home");
    assert.equal(await tp(page), "1");
    await press(page, "ArrowRight", async () => (await tp(page)) === "8", 20);
  }],
  ["with the mouse", async (page) => {
    await page.locator("#tp").evaluate((slider) => { slider.value = "0"; slider.dispatchEvent(new Event("input")); });
    await drag(page, "#tp", async () => (await tp(page)) === "8");
  }],
]) {
  onPage(`TP 8 for vllm, ${how}, shows the finding about blocks as check prints it`, "report-m2", {}, async ({ page, context, t }) => {
    const beside = MADE.beside["report-m2-tp8"];
    const place = beside.check.findings.findIndex((finding) => finding.code === "WB502" && finding.runtime === "vllm");
    const finding = beside.check.findings[place];
    await page.locator("#runtime").selectOption("vllm");
    await move(page);
    assert.equal(await page.locator("#tp").getAttribute("aria-valuetext"), "8");
    const told = page.locator('#rank-finding [data-code="WB502"]');
    await told.waitFor({ timeout: 10_000 });
    for (const words of [finding.title, finding.evidence, finding.consequence]) assert.ok((await told.innerText()).includes(words), `${words} is not in\n${await told.innerText()}`);
    assert.equal(await copied(context, page, told.locator("button.copy")), printedFixes(beside.check, beside.text)[place][1]);
    await shoot(page, `report-m2-tp8-${how.split(" ").pop()}`, t);
  });
}

onPage("a cut that works has no error, and a smaller device does not hold it", "report-m2", {}, async ({ page }) => {
  await page.locator("#runtime").selectOption("vllm");
  await page.locator("#tp").focus();
  await page.keyboard.press("Home");
  await press(page, "ArrowRight", async () => (await tp(page)) === "4", 20);
  assert.equal(await page.locator('#rank-finding [data-code="WB502"]').count(), 0);
  const parts = await page.locator("#rank-parts dd").allInnerTexts();
  const bytes = parts.map((each) => Number(each.match(/([\d,]+) bytes/)[1].replaceAll(",", "")));
  const total = (await page.locator("#rank-total").innerText()).match(/^([\d.]+) GB/)[1];
  assert.equal((bytes.reduce((sum, each) => sum + each) / 1e9).toFixed(2), total);
  await page.locator("#device").selectOption("");
  await page.locator("#device-memory").fill("1");
  await says(page, "#rank-total", "does not fit");
  await page.locator("#device-memory").fill("1000");
  await says(page, "#rank-total", "fits");
  await page.locator("#context").fill("0");
  await says(page, '#rank-parts dd[data-part="cache"]', /^0 bytes/);
});

for (const name of ["report-faulty", "report-m2-tp8", "report-demo"]) {
  onPage(`each copied fix is what check prints, ${name}`, name, {}, async ({ page, context, beside }) => {
    const printed = printedFixes(beside.check, beside.text);
    const articles = page.locator("#findings article");
    assert.equal(await articles.count(), printed.length);
    for (const [place, [sentence, value]] of printed.entries()) {
      const finding = beside.check.findings[place];
      assert.equal(await articles.nth(place).getAttribute("data-code"), finding.code);
      const button = articles.nth(place).locator("button.copy");
      // The sentence of a note ("nothing to do") is not worth copying.
      const many = value || (sentence && finding.severity !== "note") ? 1 : 0;
      assert.equal(await button.count(), many, `${finding.code}: a button where there is a fix`);
      if (!many) continue;
      const text = await copied(context, page, button);
      if (finding.fix.value === null) {
        assert.equal(text.split(/\s+/).join(" "), sentence);
      } else {
        assert.equal(text, value);
        // A text stands there as it is typed; all else is JSON.
        assert.deepEqual(typeof finding.fix.value === "string" ? text : JSON.parse(text), finding.fix.value);
      }
    }
  });
}

onPage("the switch changes the colours and back", "report-demo", {}, async ({ page }) => {
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await page.locator("#theme").click();
  const dark = await paper();
  assert.notEqual(dark, light);
  assert.match(await page.locator("#theme").getAttribute("aria-label"), /light/);
  await page.locator("#theme").click();
  assert.equal(await paper(), light);
});

onPage("the keyboard alone: to the search, to a result, to its facts; every stop can be seen", "report-demo", {}, async ({ page }) => {
  const stop = () => page.evaluate(() => {
    const element = document.activeElement;
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    const ring = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2) || (style.stroke !== "none" && parseFloat(style.strokeWidth) >= 2);
    return { name: element.id || element.tagName, seen: box.width > 1 && box.height > 1, ring };
  });
  await page.keyboard.press("Tab");
  assert.match(await page.evaluate(() => document.activeElement.textContent), /Skip/);
  const hidden = [];
  await press(page, "Tab", async () => {
    const here = await stop();
    if (!here.seen || !here.ring) hidden.push(here);
    return has(page, "#search");
  });
  assert.deepEqual(hidden, []);
  await page.keyboard.type("experts.7.w2");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  const name = await page.evaluate(() => document.activeElement.textContent);
  assert.ok(name.includes("experts.7.w2"), `${name} has the focus`);
  await page.keyboard.press("Enter");
  assert.ok((await page.locator("#tensor").innerText()).includes(name));
});

onPage("the map: one stop, arrow keys go from cell to cell and say where one is", "report-demo", {}, async ({ page, t }) => {
  assert.equal(await page.locator('#map [tabindex="0"].cell').count(), 1);
  await press(page, "Tab", () => has(page, "#map .cell"));
  const seen = new Set();
  for (const key of ["ArrowDown", "ArrowDown", "ArrowUp", "ArrowDown", "ArrowDown", "End", "Home"]) {
    await page.keyboard.press(key);
    const name = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
    assert.ok(await has(page, "#map .cell"));
    assert.equal(await page.locator("#map-cell").innerText(), name);
    seen.add(name);
  }
  assert.ok(seen.size >= 3, [...seen].join("\n"));
  await shoot(page, "report-demo-map-focus", t, { fullPage: false });
  await page.keyboard.press("Enter");
  assert.ok(await has(page, "#search"));
  assert.ok((await found(page)).length > 0, "the module of the cell was searched for");
});

onPage("on paper: all findings, no buttons", "report-faulty", {}, async ({ page, beside, t }) => {
  await page.emulateMedia({ media: "print" });
  const articles = await page.locator("#findings article").evaluateAll((all) => all.filter((each) => each.getBoundingClientRect().height > 40).length);
  assert.equal(articles, beside.check.findings.length);
  const buttons = await page.locator("button.copy, #theme, .contents").evaluateAll((all) => all.filter((each) => each.getBoundingClientRect().height > 0).length);
  assert.equal(buttons, 0);
  mkdirSync(OUT, { recursive: true });
  const path = join(OUT, "report-faulty.pdf");
  await page.pdf({ path, format: "A4" });
  t.diagnostic(`on paper ${path}`);
});

onPage("without JavaScript: findings and tables are there, dead controls are not", "report-faulty", { javaScriptEnabled: false }, async ({ page, beside, t }) => {
  const told = await page.locator("#findings").innerText();
  for (const finding of beside.check.findings) {
    for (const words of [finding.title, finding.evidence, finding.fix.text]) assert.ok(told.includes(words.trim()), `${words} is not in the page`);
  }
  const rows = await page.locator("#inspect tbody tr").count();
  assert.ok(rows >= beside.roles, `${rows} rows, ${beside.roles} roles`);
  for (const dead of ["#search", "#tp", "#ep", "button.copy"]) assert.equal(await page.locator(dead).first().isVisible(), false, `${dead} does nothing`);
  await shoot(page, "report-faulty-no-script", t);
});

onPage("phone: the search and the sliders are wide enough for a thumb", "report-m2", { viewport: VIEWS.phone, hasTouch: true, isMobile: true }, async ({ page, t }) => {
  await find(page, DEEP);
  await page.locator("#search-results button").first().tap();
  assert.ok((await page.locator("#tensor").innerText()).includes(DEEP));
  for (const control of ["#search", "#tp", "#ep", "#runtime"]) {
    const box = await page.locator(control).boundingBox();
    assert.ok(box.width >= 140 && box.height >= 24, `${control} is ${box.width} x ${box.height}`);
  }
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
  assert.ok(wide <= VIEWS.phone.width, `${wide} pixels wide`);
  await shoot(page, "report-m2-phone-tensor", t);
});

onPage("against another checkpoint: the grades are those of verify", "report-against", {}, async ({ page, beside }) => {
  const told = await page.locator("#verify").innerText();
  for (const [grade, many] of Object.entries(beside.verify.grades)) assert.match(told, new RegExp(`${grade}\\s+${many.toLocaleString("en")}\\b`));
  assert.ok(told.includes(beside.verify.total_sqnr_db.toFixed(2)), told);
  assert.ok(told.includes(beside.verify.worst.name), told);
});

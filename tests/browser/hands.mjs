// What a person does with a page: type, press, drag, copy and paste.

import assert from "node:assert/strict";

/** Types into the search field and returns how many tensors the page says it found. */
export async function find(page, words) {
  await page.locator("#search").fill(words);
  const told = await page.locator("#search-count").innerText();
  return Number(told.match(/[\d,]+/)[0].replaceAll(",", ""));
}

export const found = (page) => page.locator("#search-results button").allInnerTexts();

/** Presses a key until `done`; the number of presses. */
export async function press(page, key, done, most = 400) {
  for (let times = 0; times <= most; times += 1) {
    if (await done()) return times;
    await page.keyboard.press(key);
  }
  return assert.fail(`${key} was pressed ${most} times`);
}

/** Waits until an element says so: what a slider changes is drawn in the next frame. */
export async function says(page, selector, words) {
  const there = page.locator(selector).filter({ hasText: words });
  await assert.doesNotReject(there.first().waitFor({ timeout: 10_000 }), `${selector} says ${words}, not: ${await page.locator(selector).allInnerTexts()}`);
}

export const has = (page, selector) => page.evaluate((wanted) => Boolean(document.activeElement?.matches(wanted)), selector);

/** Takes the thumb of a slider with the mouse and pulls it to the right until `done`. */
export async function drag(page, slider, done) {
  await page.locator(slider).scrollIntoViewIfNeeded();
  const box = await page.locator(slider).boundingBox();
  const [value, most] = await page.locator(slider).evaluate((element) => [Number(element.value), Number(element.max)]);
  const thumb = 16;
  const from = box.x + thumb / 2 + (value / most) * (box.width - thumb);
  await page.mouse.move(from, box.y + box.height / 2);
  await page.mouse.down();
  for (let x = from; x < box.x + box.width && !(await done()); x += 3) await page.mouse.move(x, box.y + box.height / 2);
  await page.mouse.up();
  assert.ok(await done(), `${slider} was pulled to its end`);
}

/** Clicks a copy button and says what another program would then paste. */
export async function copied(context, page, button) {
  await button.click();
  await assert.doesNotReject(button.filter({ hasText: "Copied" }).waitFor({ timeout: 10_000 }), "the button says that it copied");
  const other = await context.newPage();
  await other.setContent("<textarea></textarea>");
  await other.locator("textarea").focus();
  await other.keyboard.press("Control+V");
  const text = await other.locator("textarea").inputValue();
  await other.close();
  return text;
}

/** [sentence, value] of the fix in each finding of the text that `check` prints; the value as it stands there without the indentation. */
export function printedFixes(document, text) {
  const blocks = text.trimEnd().split("\n\n");
  assert.equal(blocks.length, document.findings.length + 1, "one block for each finding, and the sum");
  return document.findings.map((finding, place) => {
    const lines = blocks[place].split("\n");
    const first = lines.findIndex((line) => line.startsWith("  fix "));
    if (first < 0) return ["", ""];
    const words = lines.slice(first).map((line) => line.slice(12));
    const sentence = finding.fix.text.split(/\s+/).join(" ");
    let many = 0;
    while (many < words.length && words.slice(0, many).join(" ") !== sentence) many += 1;
    assert.equal(words.slice(0, many).join(" "), sentence, `${finding.code}: the sentence of the fix`);
    return [sentence, words.slice(many).join("\n")];
  });
}

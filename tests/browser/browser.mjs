// A real browser, and a page in it that is watched: what it says on the console, what it throws, what it asks for.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
export const OUT = resolve(process.env.WEIGHBRIDGE_PAGES ?? join(here, "../../out/browser"));
export const PAGES = join(OUT, "pages");
export const SHOTS = join(OUT, "screenshots");
export const MADE = JSON.parse(readFileSync(join(PAGES, "pages.json"), "utf8"));

export const VIEWS = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
export const THEMES = ["light", "dark"];

// Without the network flags Chromium itself asks for addresses of its maker at every start.
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--hide-scrollbars"];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: FLAGS });

/** What pages.py wrote under `name`; a command that failed fails the test with its own words. */
export function made(name) {
  const page = MADE.pages.find((each) => each.name === name);
  assert.ok(page, `pages.py makes no ${name}`);
  assert.equal(page.error, "", `${page.command}\n${page.error}`);
  return page;
}

/**
 * Opens a file as a double click does. `options`: those of a context, for example { colorScheme, viewport, javaScriptEnabled }.
 * The answer is { page, context, complaints, url }: whatever gathers in `complaints` is a defect.
 */
export async function open(browser, file, options = {}) {
  const context = await browser.newContext({ viewport: VIEWS.desktop, colorScheme: "light", ...options });
  const page = await context.newPage();
  const url = pathToFileURL(join(PAGES, file)).href;
  const complaints = watch(page, url);
  await page.goto(url, { waitUntil: "load" });
  return { page, context, complaints, url };
}

function watch(page, url) {
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning", "assert"].includes(message.type())) complaints.push(`console ${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
  page.on("request", (request) => {
    if (request.url().split("#")[0] !== url) complaints.push(`request: ${request.url().slice(0, 200)}`);
  });
  page.on("websocket", (socket) => complaints.push(`websocket: ${socket.url()}`));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("popup", (other) => complaints.push(`another window: ${other.url()}`));
  return complaints;
}

/** Keeps a picture of the whole page as an artefact, and says where. */
export async function shoot(page, name, t, options = { fullPage: true, animations: "disabled" }) {
  mkdirSync(SHOTS, { recursive: true });
  const path = join(SHOTS, `${name}.png`);
  const take = () => page.screenshot({ path, ...options });
  await take().catch(take); // a machine under load may have no memory for the picture at the first time
  t.diagnostic(`screenshot ${path}`);
}

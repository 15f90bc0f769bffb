// Memory of one rank: two sliders, a reader, a device, a load; and what `check` finds at that cut.

function wakeMemory(memory, shown) {
  if (!byId("tp")) return;
  const rows = Object.fromEntries(memory.runtimes.map((name) => [name, memory.table[name].rows.map(rankRow)]));
  const state = { rows: [], tps: [], eps: [], tp: 1, ep: 1 };
  const field = (name) => Math.max(0, Math.floor(Number(byId(name).value) || 0));
  const load = () => ({ context: field("context"), batch: Math.max(1, field("batch")), pipeline: memory.pipeline,
    memory: Math.round((Number(byId("device-memory").value) || 0) * 1e9) });
  const show = onNextFrame(() => {
    showRank(state, memory, load());
    shown();
  });

  const cut = (tp, ep) => {
    state.tp = tp;
    state.eps = epStops(state.rows, tp);
    state.ep = state.eps[stopAt(state.eps, ep)];
    setSlider("tp", state.tps, state.tp);
    setSlider("ep", state.eps, state.ep);
    show();
  };
  const reader = (keep) => {
    state.rows = rows[byId("runtime").value];
    state.tps = tpStops(state.rows);
    if (keep) return cut(state.tps[stopAt(state.tps, state.tp)], state.ep);
    const first = firstCut(state.rows, memory.messages, load());
    const [tp, ep] = memory.start ?? [first.tp, first.ep]; // what the command line asks for, else what fits
    return cut(state.tps[stopAt(state.tps, tp)], ep);
  };

  byId("tp").addEventListener("input", () => cut(state.tps[Number(byId("tp").value)], state.ep));
  byId("ep").addEventListener("input", () => cut(state.tp, state.eps[Number(byId("ep").value)]));
  byId("runtime").addEventListener("change", () => reader(true));
  byId("device").addEventListener("change", () => {
    const device = memory.devices.find((one) => one.name === byId("device").value);
    if (device) byId("device-memory").value = String(device.bytes / 1e9);
    else byId("device-memory").focus();
    show();
  });
  byId("device-memory").addEventListener("input", () => {
    byId("device").value = memory.devices.find((one) => one.bytes === load().memory)?.name ?? "";
    show();
  });
  for (const name of ["context", "batch"]) byId(name).addEventListener("input", show);
  byId("cuts-box").addEventListener("click", (event) => {
    const button = event.target.closest("button[data-tp]");
    if (button) cut(Number(button.dataset.tp), Number(button.dataset.ep));
  });
  setDevice(memory, rows[byId("runtime").value], load());
  reader(false);
}

/** The memory that the user named, or the smallest device of which eight hold the model. */
function setDevice(memory, rows, load) {
  const enough = (device) => rows.some((row) => row.tp <= 8 && cuttable(row, memory.messages) && fits(rankBytes(row, load).total, device.bytes));
  const devices = [...memory.devices].sort((a, b) => a.bytes - b.bytes);
  const bytes = memory.device_memory || ((devices.find(enough) ?? devices.at(-1))?.bytes ?? 0);
  byId("device").value = memory.devices.find((one) => one.bytes === bytes)?.name ?? "";
  byId("device-memory").value = bytes ? String(bytes / 1e9) : "";
}

function setSlider(name, stops, value) {
  const slider = byId(name);
  slider.max = String(stops.length - 1);
  slider.value = String(stops.indexOf(value));
  slider.disabled = stops.length < 2;
  slider.setAttribute("aria-valuetext", String(value));
  byId(`${name}-value`).textContent = String(value);
}

function showRank(state, memory, load) {
  const row = state.rows.find((one) => one.tp === state.tp && one.ep === state.ep);
  const bytes = rankBytes(row, load);
  byId("rank-cut").textContent = `${state.tp === 1 ? "The only rank" : `One of ${commas(state.tp)} ranks`} of ${byId("runtime").value}, TP ${state.tp}, EP ${state.ep}, `
    + `${countText(load.context, "token")} × ${countText(load.batch, "sequence")}`;
  byId("rank-total").textContent = fitText(bytes.total, load.memory);
  byId("rank-total").className = fits(bytes.total, load.memory) ? "fits" : "full";
  for (const part of byId("rank-parts").querySelectorAll("dd")) {
    fill(part, sizeText(bytes[part.dataset.part]), " ", make("span", {}, `${commas(bytes[part.dataset.part])} bytes`));
  }
  showBar(bytes, load.memory);
  showFinding(row, memory);
  showCuts(state, memory, load);
}

function fitText(total, memory) {
  if (memory === 0) return `${sizeText(total)}: no device is chosen`;
  const left = memory - total;
  return left >= 0 ? `${sizeText(total)} of ${sizeText(memory)}: fits, ${sizeText(left)} left` : `${sizeText(total)} of ${sizeText(memory)}: does not fit, ${sizeText(-left)} too much`;
}

/** Parts as shares of the larger of both: what the rank holds, what the device has. A line marks the device. */
function showBar(bytes, memory) {
  const whole = Math.max(bytes.total, memory, 1);
  for (const bar of byId("rank-bar").children) bar.style.width = `${(100 * bytes[bar.dataset.part]) / whole}%`;
  byId("rank-limit").hidden = memory === 0;
  byId("rank-limit").style.left = `${(100 * memory) / whole}%`;
}

/** The same findings, in the same words, as `check` at that cut; the worst first. */
function showFinding(row, memory) {
  const box = byId("rank-finding");
  const key = `${byId("runtime").value} ${row.tp} ${row.ep}`;
  if (box.dataset.key === key) return; // the same text again would be read out again
  box.dataset.key = key;
  const found = row.messages.map((number) => rankFinding(memory.messages[number], row));
  fill(box, ...(found.length ? found : [make("p", { class: "clean" }, `TP ${row.tp}, EP ${row.ep}: no finding about this cut.`)]));
}

function rankFinding(message, row) {
  const part = (name, words) => (words ? [make("dt", {}, name), make("dd", {}, words)] : []);
  return make("div", { class: `finding f-${message.severity}`, "data-code": message.code },
    make("p", { class: "kicker" }, severityIcon(message.severity), make("strong", { class: `${message.severity}-text` }, ` ${message.severity} `),
      make("span", { class: "mono" }, message.code), make("span", { class: "quiet-text" }, ` at TP ${row.tp}, EP ${row.ep}`)),
    make("p", { class: "title" }, message.title),
    make("dl", { class: "told" }, ...part("Evidence", message.evidence), ...part("Then", message.consequence),
      ...(message.copy ? [make("dt", {}, "Fix"), fixOf(message)] : [])));
}

/** The sentence, and the new value to copy. A note without a value has nothing to copy. */
function fixOf(message) {
  const prose = message.fix.value === null;
  if (prose && message.severity === "note") return make("dd", {}, message.fix.text);
  return make("dd", {}, prose ? null : make("p", {}, message.fix.text), copyBlock(message.copy, `the fix of ${message.code}`, prose));
}

/** The shape of a severity, from the page's own set of shapes. */
function severityIcon(severity) {
  return byId(`shape-${severity}`).content.firstElementChild.cloneNode(true);
}

/** All cuts at a glance: TP from left to right, EP from top to bottom; each cell says what a rank holds and whether that is well. */
function showCuts(state, memory, load) {
  const lines = cutLines(state.rows);
  const byPair = new Map(state.rows.map((row) => [PAIR(row.tp, row.ep), row]));
  const focused = document.activeElement?.dataset?.tp ? PAIR(document.activeElement.dataset.tp, document.activeElement.dataset.ep) : null;
  const head = make("tr", {}, make("td"), ...state.tps.map((tp) => make("th", { scope: "col", class: "n" }, `TP ${tp}`)));
  const body = lines.map((ep) => make("tr", {}, make("th", { scope: "row" }, ep === ALL ? "EP = TP" : `EP ${ep}`),
    ...state.tps.map((tp) => cutCell(byPair.get(cutPair(tp, ep)), state, memory, load))));
  const box = byId("cuts-box");
  if (!box.firstChild) box.append(make("div", { class: "wide", role: "region", tabindex: 0, "aria-label": "All cuts" }, make("table", { class: "cuts" })));
  fill(box.querySelector("table"), make("thead", {}, head), make("tbody", {}, ...body));
  if (focused) box.querySelector(`button[data-pair="${focused}"]`)?.focus();
  byId("cuts-says").textContent = "GB of one rank. ✓ can be cut so and fits, ▲ is too large for the device, ✕ has an error. Choose one to see it above.";
}

const ALL = 0; // the line of a reader that deals experts out to all ranks or to none

/** Lines of the table: EP degrees; two lines where each EP is 1 or TP. */
function cutLines(rows) {
  const eps = [...new Set(rows.map((row) => row.ep))].sort((a, b) => a - b);
  return eps.length > 1 && rows.every((row) => row.ep === 1 || row.ep === row.tp) ? [1, ALL] : eps;
}

const cutPair = (tp, ep) => (ep === ALL ? (tp === 1 ? "" : PAIR(tp, tp)) : PAIR(tp, ep));

function cutCell(row, state, memory, load) {
  if (!row) return make("td", {}, "");
  const { total } = rankBytes(row, load);
  const [sign, kind, says] = !cuttable(row, memory.messages) ? ["✕", "bad", `has the error ${memory.messages[row.messages[0]].code}`]
    : fits(total, load.memory) ? ["✓", "good", "fits"] : ["▲", "large", "does not fit"];
  const chosen = row.tp === state.tp && row.ep === state.ep;
  return make("td", { class: "n" }, make("button", { type: "button", class: `cut c-${kind}`, "data-tp": row.tp, "data-ep": row.ep, "data-pair": PAIR(row.tp, row.ep),
    "aria-pressed": chosen ? "true" : "false" },
  make("span", { "aria-hidden": "true" }, `${sign} `), (total / 1e9).toFixed(total < 1e9 ? 3 : 1), make("span", { class: "hidden-text" }, ` GB at TP ${row.tp}, EP ${row.ep}: ${says}`)));
}

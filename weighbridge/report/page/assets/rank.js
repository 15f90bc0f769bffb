// Bytes of one rank. The table comes from the arithmetic of `check`; here it is only multiplied out. All numbers are integers below 2^53.

/** Row of the table as named fields. */
function rankRow([tp, ep, attention, experts, rest, full, windowed, window, messages]) {
  return { tp, ep, attention, experts, rest, full, windowed, window, messages };
}

/** Key/value cache: layers that keep everything, and layers that keep a window of each sequence, dealt out to the stages of a pipeline. */
function cacheBytes(row, { context, batch, pipeline }) {
  const tokens = context * batch;
  return Math.floor((row.full * tokens + row.windowed * Math.min(tokens, row.window * batch)) / pipeline);
}

/** The parts of one rank under a load {context, batch, pipeline}, and their sum. */
function rankBytes(row, load) {
  const cache = cacheBytes(row, load);
  return { attention: row.attention, experts: row.experts, rest: row.rest, cache, total: row.attention + row.experts + row.rest + cache };
}

/** TP degrees of a reader's table, and the EP degrees of one of them, in order. */
const tpStops = (rows) => [...new Set(rows.map((row) => row.tp))].sort((a, b) => a - b);
const epStops = (rows, tp) => [...new Set(rows.filter((row) => row.tp === tp).map((row) => row.ep))].sort((a, b) => a - b);

/** The place of the largest stop that is not above `value`. */
const stopAt = (stops, value) => Math.max(0, stops.filter((stop) => stop <= value).length - 1);

const PAIR = (tp, ep) => `${tp},${ep}`;

/** Does a rank fit? Memory 0 means that no device is named. */
const fits = (total, memory) => memory === 0 || total <= memory;

/** Can the reader cut so? Notes and warnings do not keep it from running. */
const cuttable = (row, messages) => row.messages.every((number) => messages[number].severity !== "error");

/** The cut to begin with: the least TP without expert parallelism that can be cut and fits; else with it; else the first. */
function firstCut(rows, messages, load) {
  const good = rows.filter((row) => cuttable(row, messages) && fits(rankBytes(row, load).total, load.memory));
  return [...good.filter((row) => row.ep === 1), ...good, ...rows][0];
}

// Pure functions of the report's script against cases that Python wrote. Run by test_report_js.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import test from "node:test";

const cases = JSON.parse(readFileSync(process.env.WEIGHBRIDGE_CASES, "utf8"));
const PURE = ["dom.js", "units.js", "names.js", "ways.js", "rank.js", "map.js"];
const WANTED = ["Names", "cacheBytes", "countText", "cuttable", "epStops", "fileAt", "filled", "filledWay", "firstCut", "fits", "groupSize", "mapQuery", "namesOf",
  "nextCell", "numbersAt", "rankBytes", "rankRow", "shapeText", "sizeText", "stopAt", "tpStops"];
const source = PURE.map((name) => readFileSync(join(process.env.WEIGHBRIDGE_ASSETS, name), "utf8")).join("\n");
const page = new Function(`"use strict";\n${source}\nreturn { ${WANTED.join(", ")} };`)();
const { groups, files, total } = cases.data.tensors;

test("sizes are written as the command line writes them", () => {
  for (const [bytes, text] of cases.sizes) assert.equal(page.sizeText(bytes), text);
  assert.equal(page.countText(1, "tensor"), "1 tensor");
  assert.equal(page.countText(96103, "tensor"), "96,103 tensors");
});

test("groups are written out in the order of their ranges", () => {
  assert.deepEqual(groups.flatMap((group) => Array.from(page.namesOf(group))), cases.names);
  assert.equal(groups.reduce((sum, group) => sum + page.groupSize(group), 0), total);
});

test("each tensor has its file", () => {
  const names = new page.Names(groups);
  for (const [name, file] of Object.entries(cases.files)) {
    const at = names.exact(name);
    assert.equal(page.fileAt(groups[at.group], at.index, files), file, name);
    assert.equal(names.of(at.group)[at.index], name);
  }
  assert.equal(names.exact("no such tensor"), null);
});

test("a scale is a tensor that is there", () => {
  const names = new page.Names(groups);
  const every = new Set(cases.names);
  let seen = 0;
  groups.forEach((group, place) => {
    if (group.scale < 0) return;
    names.of(place).forEach((name, index) => {
      const scale = names.at(group.scale, page.numbersAt(group, index));
      assert.ok(every.has(scale) && scale.startsWith(name.replace(/\.weight$/, "")), `${name}: ${scale}`);
      seen += 1;
    });
  });
  assert.ok(seen > 100);
});

test("the search counts what holds all words", () => {
  for (const limit of [0, 5, 200]) {
    for (const [query, many] of Object.entries(cases.found)) {
      const found = new page.Names(groups).find(query, limit);
      assert.equal(found.total, many, query);
      assert.equal(found.hits.length, Math.min(limit, many));
      for (const hit of found.hits) for (const word of query.toLowerCase().split(" ")) assert.ok(hit.toLowerCase().includes(word));
    }
  }
});

test("a key stroke at full size takes less than 50 ms", () => {
  const large = ["w1", "w2", "w3"].flatMap((part) => ["weight", "weight_scale_inv"].map((end) => (
    { name: `model.layers.{0}.block_sparse_moe.experts.{1}.${part}.${end}`, ranges: [[0, 61], [0, 255]], files: [], scale: -1, way: -1 })));
  const names = new page.Names(large);
  assert.equal(names.find("model", 1).total, 95232);
  const times = ["layers.61.block_sparse_moe.experts.255.w2", "layers.6 experts.25 w2", "e"].map((query) => Math.min(...[1, 2, 3, 4, 5].map(() => {
    const start = performance.now();
    names.find(query, 200);
    return performance.now() - start;
  })));
  assert.ok(Math.max(...times) < 50, String(times));
  assert.deepEqual(names.find("layers.61.block_sparse_moe.experts.255.w2", 9).hits, ["weight", "weight_scale_inv"].map((end) => `model.layers.61.block_sparse_moe.experts.255.w2.${end}`));
});

test("places in a way are filled, and nothing else is", () => {
  assert.equal(page.filled("layers.{0}.e{1}[{1}, :, 0:{0+2}] f-{0:02}-{1+5:05}", [7, 30]), "layers.7.e30[30, :, 0:9] f-07-00035");
  assert.equal(page.filled("{2} {x} {} {0}", [1, 2]), "{2} {x} {} 1");
  const literal = { steps: [{ op: "load", detail: "{0}", lossy: false }] };
  assert.deepEqual(page.filledWay(literal, []), literal);
  const names = new page.Names([{ name: "odd.{0}.name", ranges: [], scale: -1 }]);
  assert.deepEqual(names.exact("odd.{0}.name"), { group: 0, index: 0 });
});

test("every tensor with a way has one without open places", () => {
  let seen = 0;
  for (const group of groups) {
    if (group.way < 0) continue;
    const way = page.filledWay(cases.data.ways.list[group.way], page.numbersAt(group, page.groupSize(group) - 1));
    assert.ok(way.steps.length > 0 && way.destination.length > 0);
    assert.doesNotMatch(JSON.stringify(way), /\{\d+[+:}]/);
    seen += 1;
  }
  assert.ok(seen > 5);
});

test("bytes of a rank are those of check's budget", () => {
  const { table, pipeline } = cases.data.memory;
  assert.ok(cases.ranks.length > 20);
  for (const told of cases.ranks) {
    const row = table[told.runtime].rows.map(page.rankRow).find((one) => one.tp === told.tp && one.ep === 1);
    const bytes = page.rankBytes(row, { context: told.context, batch: told.batch, pipeline });
    for (const part of ["attention", "experts", "rest", "cache", "total"]) assert.equal(bytes[part], told[part], `${part} of ${JSON.stringify(told)}`);
  }
});

test("windows and pipelines bound the cache", () => {
  const row = page.rankRow([1, 1, 10, 20, 30, 100, 8, 4096, []]);
  assert.equal(page.cacheBytes(row, { context: 1000, batch: 2, pipeline: 1 }), 100 * 2000 + 8 * 2000);
  assert.equal(page.cacheBytes(row, { context: 10000, batch: 2, pipeline: 1 }), 100 * 20000 + 8 * 8192);
  assert.equal(page.cacheBytes(row, { context: 3, batch: 1, pipeline: 5 }), Math.floor(324 / 5));
  assert.equal(page.rankBytes(row, { context: 0, batch: 1, pipeline: 1 }).total, 60);
});

test("sliders stop at the cuts of a reader", () => {
  for (const { rows } of Object.values(cases.data.memory.table)) {
    const list = rows.map(page.rankRow);
    const stops = page.tpStops(list);
    assert.deepEqual(stops, [...new Set(stops)].sort((a, b) => a - b));
    for (const tp of stops) assert.ok(page.epStops(list, tp).length > 0);
    const first = page.firstCut(list, cases.data.memory.messages, { context: 1, batch: 1, pipeline: 1, memory: 80e9 });
    assert.ok(page.cuttable(first, cases.data.memory.messages));
  }
  assert.equal(page.stopAt([1, 2, 4, 8], 6), 2);
  assert.equal(page.stopAt([2, 4], 1), 0);
});

test("a cell of the map finds its tensors and no others", () => {
  const names = new page.Names(groups);
  for (const [column, first, last, , weights] of cases.map.runs) {
    const { name } = cases.map.columns[column];
    const found = names.find(page.mapQuery({ module: name, first: String(first), last: String(last) }, first), 1e6);
    const exact = new RegExp(`\\.layers\\.${first}\\.${name.replaceAll(".", "\\.").replaceAll("*", "\\d+")}(\\.|$)`);
    assert.ok(found.total >= weights, name);
    for (const hit of found.hits) assert.match(hit, exact);
  }
});

test("a query for one layer names no other", () => {
  assert.equal(page.mapQuery({ module: "moe.experts.*.w1", first: "1", last: "1" }, null), "layers.1. .moe.experts. .w1");
  assert.equal(page.mapQuery({ module: "norm", first: "0", last: "61" }, 6), "layers.6. .norm");
  assert.equal(page.mapQuery({ module: "norm", first: "0", last: "61" }, null), ".norm");
});

test("an error keeps a cut from running, a note does not", () => {
  const messages = [{ severity: "note" }, { severity: "error" }, { severity: "warning" }];
  const row = (found) => page.rankRow([1, 1, 0, 0, 0, 0, 0, 0, found]);
  assert.deepEqual([[], [0], [2, 0], [1], [1, 0]].map((found) => page.cuttable(row(found), messages)), [true, true, true, false, false]);
  assert.deepEqual([page.fits(5, 0), page.fits(5, 5), page.fits(6, 5)], [true, true, false]);
});

test("arrow keys go to the next run, and stop at the edge", () => {
  const cell = (column, first, last) => ({ dataset: { column: String(column), first: String(first), last: String(last) } });
  const cells = [cell(0, 0, 9), cell(1, 0, 2), cell(1, 3, 9), cell(3, 5, 9)];
  assert.equal(page.nextCell(cells, cells[0], "ArrowDown"), cells[1]);
  assert.equal(page.nextCell(cells, cells[1], "ArrowRight"), cells[2]);
  assert.equal(page.nextCell(cells, cells[2], "ArrowRight"), cells[2]);
  assert.equal(page.nextCell(cells, cells[1], "ArrowDown"), cells[3]);
  assert.equal(page.nextCell(cells, cells[3], "ArrowUp"), cells[2]);
  assert.equal(page.nextCell(cells, cells[0], "ArrowUp"), cells[0]);
  assert.equal(page.nextCell(cells, cells[1], "End"), cells[2]);
});

"""The report's page: what it must hold, and what it must never do with other people's text."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.report.check import text as check_text
from weighbridge.report.check.text import pasted
from weighbridge.report.page import head as report_head
from weighbridge.report.page import html as report_html
from weighbridge.report.page import map as report_map
from weighbridge.report.page import scales as report_scales
from weighbridge.report.svg import text_of
from weighbridge.report.webpage import page

from .pages import Seen, broken, demo

HOOKS = ("search", "search-results", "search-count", "tensor", "findings", "memory", "tp", "ep", "tp-value", "ep-value", "runtime", "device", "context", "batch",
         "rank-total", "rank-parts", "rank-finding", "map", "scales", "architecture", "inspect", "claims", "theme")
HOSTILE = '</script><script>alert(1)</script><img src=x onerror=alert(2)>"\' onload=x &lt;\x1b[31m\x00'


def test_hooks_ids_and_references() -> None:
    seen = Seen(report_html.html(demo()))
    ids = seen.ids()
    assert seen.balanced
    assert len(ids) == len(set(ids))
    assert not set(HOOKS) - set(ids)
    for _, attributes in seen.tags:
        for key in ("aria-labelledby", "aria-describedby", "for"):
            assert set((attributes.get(key) or "").split()) <= set(ids), attributes
        if (attributes.get("href") or "#").startswith("#"):
            assert (attributes.get("href") or "#main")[1:] in ids
    labels = {attributes["for"] for tag, attributes in seen.tags if tag == "label" and "for" in attributes}
    for tag, attributes in seen.tags:
        if tag in ("input", "select") and attributes.get("type") != "checkbox":
            assert attributes["id"] in labels, attributes


def test_headings_go_down_one_step_at_a_time() -> None:
    headings = Seen(report_html.html(demo())).headings
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))


def test_same_document_same_bytes() -> None:
    assert report_html.html(demo()) == report_html.html(copy.deepcopy(demo()))


def test_nothing_is_fetched() -> None:
    html = report_html.html(demo())
    for tag, attributes in Seen(html).tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|console\.", html)
    assert set(re.findall(r"https?://[^\s\"'<]+", html)) <= {"http://www.w3.org/2000/svg"}


def test_size_of_the_page_itself() -> None:
    bare = page("", "", style=report_html.asset("report.css"), script=report_html.script(), data={})
    assert len(bare.encode()) < 120_000
    assert {path.name for path in report_html.ASSETS.glob("*.js")} == set(report_html.SCRIPTS)


def everywhere(value: Any, depth: int = 0) -> Any:
    """The document with hostile text after every text that is other people's: names, titles, sentences, files."""
    own = {"schema", "severity", "kind", "strategy", "part", "grade", "level", "op", "of"}
    if isinstance(value, dict):
        return {key: held if key in own else everywhere(held, depth + 1) for key, held in value.items()}
    if isinstance(value, list):
        return [everywhere(held, depth + 1) for held in value]
    return value + HOSTILE if isinstance(value, str) else value


def test_hostile_text_is_text() -> None:
    document = everywhere({key: held for key, held in demo().items() if key not in ("memory", "draw")})
    document["memory"], document["draw"] = demo()["memory"], demo()["draw"]
    html = report_html.html(document)
    seen = Seen(html)
    assert seen.balanced
    assert sum(tag == "script" for tag, _ in seen.tags) == 2
    assert not any(tag == "img" or any(key.startswith("on") for key in attributes) for tag, attributes in seen.tags)
    held = json.loads(seen.texts["script"][0])
    assert held["tensors"] == document["tensors"] and held["ways"] == document["ways"]
    shown = html.partition('<script type="application/json"')[0]
    assert "\x1b" not in html and "\x00" not in html
    assert "alert(1)" in shown and "<script>alert" not in html


@pytest.mark.parametrize("faults", [(), ("scale_nan", "missing_tensor", "surplus_tensor"), ("header_not_json",), ("config_not_json",)])
def test_findings_and_their_fixes(faults: tuple[str, ...]) -> None:
    document = broken(*faults)
    html = report_html.html(document)
    seen = Seen(html)
    found = document["check"]["findings"]
    articles = [attributes for tag, attributes in seen.tags if tag == "article"]
    assert [(a["data-code"], a["data-severity"]) for a in articles] == [(f["code"], f["severity"]) for f in found]
    assert len(found) > 1
    texts = [text for text in seen.texts["pre"] if text]
    assert len(texts) == sum(_copied(f) for f in found) + 1  # and the command of the first screen
    printed = check_text.text(document["check"])
    for f in found:
        own = pasted(f["fix"])
        assert f["fix"]["value"] is None or "\n".join(" " * 12 + line for line in own.split("\n")) in printed
        assert not _copied(f) or own in texts
        assert text_of(f["fix"]["text"]) in html


def _copied(finding: dict[str, Any]) -> bool:
    """Has it a copy button? A note that there is nothing to do has none, and a finding without a fix."""
    fix = finding["fix"]
    return fix["value"] is not None or bool(fix["text"] and finding["severity"] != "note")


def test_a_short_fix_is_one_line_and_a_long_one_is_not() -> None:
    assert pasted({"text": "x", "value": {"a": [1, "ü"]}}) == '{"a": [1, "ü"]}'
    assert pasted({"text": "x", "value": 0}) == "0"
    assert pasted({"text": "leave it", "value": None}) == "leave it"
    long = [f"layer-{n}" for n in range(40)]
    assert json.loads(pasted({"text": "x", "value": long})) == long
    assert pasted({"text": "x", "value": long}).count("\n") == 41


def test_parts_that_cannot_be_made_say_why() -> None:
    document = broken("header_not_json")
    assert document["memory"] is None
    html = report_html.html(document)
    reasons = [note["reason"] for note in document["notes"]]
    assert reasons and all(reason.split(":")[0] in html for reason in reasons)
    assert 'id="memory"' in html and 'id="tp"' not in html


def test_shares_hold_all_bytes() -> None:
    inspect = demo()["inspect"]
    rows = report_head.shares(inspect)
    assert sum(row[3] for row in rows) == inspect["bytes"]
    assert sum(row[2] for row in rows) == sum(row["count"] for row in inspect["roles"])
    assert [row[3] for row in rows] == sorted((row[3] for row in rows), reverse=True)


@given(st.floats(min_value=1e-12, max_value=1.0, exclude_max=True))
def test_a_share_is_not_rounded_away(share: float) -> None:
    said = report_head.percent(share)
    assert said not in ("0.0 %", "100.0 %")


def test_the_map_shows_every_run_once() -> None:
    document = demo()
    html = report_html.html(document)
    cells = [attributes for tag, attributes in Seen(html).tags if tag == "rect" and attributes.get("role") == "button"]
    runs = sorted(document["map"]["runs"])
    assert sorted((int(c["data-column"]), int(c["data-first"]), int(c["data-last"])) for c in cells) == [tuple(run[:3]) for run in runs]  # type: ignore[arg-type]
    assert [c["tabindex"] for c in cells].count("0") == 1
    assert all(c["aria-label"] for c in cells)


def test_two_encodings_in_one_layer_share_the_row() -> None:
    document = copy.deepcopy(demo())
    column = document["map"]["runs"][0][0]
    document["map"]["runs"].append([column, 1, 2, (document["map"]["runs"][0][3] + 1) % len(document["map"]["encodings"]), 1, 10])
    cells = [a for tag, a in Seen(report_map.encoding_map(document)).tags if a.get("role") == "button" and a["data-column"] == str(column)]
    boxes = sorted((float(c["y"]), float(c["y"]) + float(c["height"])) for c in cells)  # type: ignore[arg-type]
    assert len(boxes) == 2 and boxes[0][1] <= boxes[1][0] + 0.02


def test_short_names_stay_apart() -> None:
    assert report_map.short_names(["self_attn.q_proj", "mlp.gate_proj", "moe.gate_proj", "norm"]) == ["q_proj", "mlp.gate_proj", "moe.gate_proj", "norm"]


@given(st.floats(min_value=-12, max_value=6), st.floats(min_value=0.005, max_value=12))
def test_ticks_lie_on_the_axis(low: float, span: float) -> None:
    found = report_scales.ticks((low, low + span))
    assert 1 <= len(found) <= 5
    assert found == sorted(set(found))
    assert all(low - 1e-6 <= math.log10(value) <= low + span + 1e-6 for value in found)


def test_scales_that_cannot_be_drawn() -> None:
    document = copy.deepcopy(demo())
    group = document["scales"]["groups"][0]
    group["layers"][0] = [0, 0.0, 0.0, 0.0, 0.0, 0.0]
    group["outliers"] = [{"tensor": HOSTILE, "layer": 0, "value": 0.0, "median": 1.0, "ratio": 0.0}]
    group["apart"] = 1
    seen = Seen(report_scales.scales(document))
    assert seen.balanced
    assert not any("nan" in (value or "") or "inf" == value for _, attributes in seen.tags for key, value in attributes.items() if key == "d")
    document["scales"]["groups"] = []
    assert "No scales were read" in report_scales.scales(document)


def test_verify_shows_the_least_equal() -> None:
    row = {"name": "w<1>", "grade": "wrong", "sqnr_db": 12.5, "max_relative_error": 0.25, "equal_share": 0.5, "bound": {}, "first": "at [0, 0]: 1 is 2"}
    held = {"a": "A", "b": "B", "layouts": ["hf-fp8", "neuron"], "weights": 3, "grades": {"identical": 1, "exact": 1, "bounded": 0, "wrong": 1},
            "missing": ["m<2>"], "surplus": [], "worst": row, "total_sqnr_db": 12.5, "inexact": [row], "least_equal": [row], "sampled": 0, "ok": False}
    html = report_html.html({**demo(), "verify": held})
    assert "Not the same weights: 3 weights, total SQNR 12.50 dB" in html
    assert "w&lt;1&gt;" in html and "m&lt;2&gt;" in html and 'href="#verify"' in html

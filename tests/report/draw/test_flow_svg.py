"""The picture of a conversion: all groups and steps in it, heights by bytes, lossy steps marked without colour, nothing upon anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weighbridge.api as wb
from tests.plan.tools import DEMO, convert
from tests.report.draw import pictures
from weighbridge.drawing.flow import flow
from weighbridge.report.draw import flow_svg
from weighbridge.testing import tiny

SVG = pictures.SVG


def document(src: Path, to: str, **options: Any) -> dict[str, Any]:
    return {"source": str(src), "model_type": "minimax_m2", "flow": flow(wb.open(src).plan(to, **options))}


@pytest.mark.parametrize(("to", "options"), [
    ("neuron", {}), ("neuron", {"attention": "exact"}), ("neuron", {"attention": "row"}), ("neuron", {"attention": "bf16"}), ("hf-bf16", {}),
    ("hf-fp8", {"scale_dtype": "BF16"}), ("neuron", {"shards": True, "tp": 8}), ("neuron", {"scale_rule": "legacy-448-240"}),
    ("neuron", {"scale_rule": "reciprocal", "allow": ("reciprocal",)})])
def test_conversions_of_the_demo(to: str, options: dict[str, Any]) -> None:
    made = document(DEMO, to, **options)
    svg = flow_svg.svg(made)
    root = pictures.assert_legible(svg)
    assert flow_svg.svg(made) == svg
    told = "\n".join(pictures.titles(root))
    parts = made["flow"]
    for group in (*parts["source"], *parts["destination"]):
        assert f"{group['name']}: {group['encoding']['text']}, " in told
    bands = [e for e in root.iter(SVG + "path") if "band" in (e.get("class") or "").split()]
    assert len(bands) == len(parts["bands"])
    dashed = [e for e in bands if "lossy" in (e.get("class") or "").split()]
    assert len(dashed) == sum(band["lossy"] for band in parts["bands"]) == len([e for e in root.iter(SVG + "path") if e.get("class") == "hatch"])
    shown = pictures.words(root)
    assert sum("turned" in word for word in shown) >= sum(band["turned"] for band in parts["bands"])
    for band in parts["bands"]:
        assert any(word.startswith(band["step"]) for word in shown)


def test_every_hatch_exists() -> None:
    root = pictures.parse(flow_svg.svg(document(DEMO, "neuron")))
    patterns = {f"url(#{e.get('id')})" for e in root.iter(SVG + "pattern")}
    used = {e.get("fill") for e in root.iter() if (e.get("fill") or "").startswith("url")}
    assert used and used <= patterns


def test_the_way_back_names_what_is_left_out(tmp_path: Path) -> None:
    source = convert(tiny.write_tiny(tmp_path / "a", **tiny.EVEN), tmp_path / "b", "neuron", shards=True, tp=4)
    root = pictures.assert_legible(flow_svg.svg(document(source, "hf-bf16")))
    shown = pictures.words(root)
    assert "Left out" in shown and any(word.endswith("numbers that a loader makes anew") for word in shown)


def test_heights_follow_the_bytes() -> None:
    made = document(DEMO, "neuron")
    root = pictures.parse(flow_svg.svg(made))
    high = {(e.findtext(SVG + "title") or "").partition(":")[0]: float(e.get("height") or 0) for e in root.iter(SVG + "rect") if e.find(SVG + "title") is not None}
    up = next(g for g in made["flow"]["destination"] if g["name"].endswith("gate_up_proj"))
    down = next(g for g in made["flow"]["destination"] if g["name"].endswith("down_proj"))
    assert high[up["name"]] / high[down["name"]] == pytest.approx(up["bytes"] / down["bytes"], rel=0.01)
    assert min(high.values()) >= 38


def test_totals_and_options_are_said() -> None:
    shown = pictures.words(pictures.parse(flow_svg.svg(document(DEMO, "neuron", attention="exact", tp=2))))
    assert {"10.53 MB read", "attention exact, scale rule halve, tp 2"} <= set(shown)
    assert any(word.endswith(" written") for word in shown)


def test_no_flow_no_picture() -> None:
    with pytest.raises(ValueError, match="no flow"):
        flow_svg.svg({"source": "x", "flow": None})


NAMES = st.one_of(st.text(max_size=50), st.sampled_from(["</title>", "a.b." + "c" * 3000, "\u202ex", "漢字" * 30, "layers.*.", "\ud800\x07"]))
GROUP = st.builds(lambda name, kind, tensors, size, made: {"name": name, "tensors": tensors, "bytes": size, "files": tensors, "made": made, "encoding": {
    "dtype": "X", "kind": kind, "text": name}}, NAMES, st.sampled_from(["fp8", "bf16", "plain"]), st.integers(1, 10**6), st.integers(0, 10**13), st.integers(0, 9))


@st.composite
def flows(draw: Any) -> dict[str, Any]:
    left, right = draw(st.lists(GROUP, min_size=1, max_size=12)), draw(st.lists(GROUP, max_size=12))
    band = st.builds(lambda a, b, step, lossy, words, read, written, turned: {
        "from": a, "to": b, "step": step, "lossy": lossy, "bound": words, "says": words, "tensors": 1, "bytes_read": read, "bytes_written": written, "turned": turned},
        st.integers(0, len(left) - 1), st.integers(0, max(0, len(right) - 1)), st.sampled_from([*flow_svg.LOOK, "never heard of"]), st.booleans(), NAMES,
        st.integers(0, 10**12), st.integers(0, 10**12), st.booleans())
    bands = draw(st.lists(band, max_size=25)) if right else []
    return {"to": draw(NAMES), "options": {}, "bytes_read": 1, "bytes_written": 2, "source": left, "destination": right, "bands": bands,
            "dropped": [{"name": draw(NAMES), "tensors": 3, "reason": draw(NAMES)}]}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(flows(), NAMES)
def test_any_flow_is_a_picture(made: dict[str, Any], name: str) -> None:
    pictures.assert_legible(flow_svg.svg({"source": name, "model_type": None, "flow": made}))

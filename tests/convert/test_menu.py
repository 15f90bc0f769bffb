"""The menu: what it says of a layout is what a conversion to it does."""

from __future__ import annotations

import pytest

import weighbridge.api as wb
from weighbridge.convert.alike import alike
from weighbridge.convert.menu import pick
from weighbridge.errors import Usage, WeighbridgeError
from weighbridge.layouts.accepted import CHOICES
from weighbridge.testing.replica import write_replica
from weighbridge.testing.tiny import EVEN, write_tiny


@pytest.fixture(scope="module", params=["fp8", "bf16"])
def model(request, tmp_path_factory):
    return wb.Model(write_tiny(tmp_path_factory.mktemp("menu") / "src", **EVEN, encoding=request.param))


@pytest.fixture(scope="module")
def menu(model):
    return {way["to"]: way for way in model.ways()["ways"]}


def test_every_layout_is_open_or_refused_with_a_reason(menu):
    assert set(menu) == set(CHOICES)
    for way in menu.values():
        assert (way["refused"] is None) == bool(way["command"]) == bool(way["bytes"])
        assert way["refused"] is None or len(way["refused"]) > 20
        assert way["sqnr_db"] is None or not way["exact"]


@pytest.mark.parametrize("layout", CHOICES)
def test_bytes_exactness_and_error_are_those_of_a_conversion(model, menu, layout, tmp_path):
    way = menu[layout]
    if way["refused"]:
        with pytest.raises(WeighbridgeError):
            model.convert(tmp_path / "out", layout)
        return
    result = model.convert(tmp_path / "out", layout).document()
    assert way["bytes"] == result["bytes_written"] and way["exact"] == (not result["lossy"])
    if way["sqnr_db"] is not None:
        found = model.verify(tmp_path / "out")
        assert found["ok"] and found["total_sqnr_db"] == pytest.approx(way["sqnr_db"], abs=8)  # of all weights, not of the rounded alone
        own = [row["sqnr_db"] for row in result["lossy"]]
        assert min(own) - 2 <= way["sqnr_db"] <= max(own) + 2


def test_layers_that_are_alike_are_planned_once(tmp_path):
    model = wb.Model(write_replica(tmp_path / "r", layers=9, experts=8, vocab=256))
    kept = alike(model.source)
    assert kept.stands == {0: 3, 4: 3, 8: 3} and len(kept.source.inventory.weights) < len(model.source.inventory.weights) / 2
    for way in model.ways()["ways"]:
        if way["refused"] is None:
            assert way["bytes"] == model.plan(way["to"]).bytes_written, way["to"]
            assert way["exact"] or "zero" in way["measured"]  # its weights are holes: nothing was measured, and it says so


def test_a_weight_that_is_cut_off_is_no_error_of_the_program(tmp_path):
    folder = write_tiny(tmp_path / "src", **EVEN)
    model = wb.Model(folder)
    assert model.source
    shard = sorted(folder.glob("*.safetensors"))[0]
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size // 2)
    assert any(way["refused"] for way in model.ways()["ways"])


def test_a_reader_gets_what_loses_least(tmp_path):
    fp8 = wb.Model(write_tiny(tmp_path / "fp8", **EVEN)).source
    assert pick(fp8, "vllm").way.to == "hf-fp8" and pick(fp8, "vllm").way.exact
    assert pick(fp8, "neuron", "trn2").way.to == "neuron" or pick(fp8, "neuron", "trn2").way.to == "hf-bf16"
    found = pick(fp8, "vllm", "a100")
    assert "8.9" in found.others["modelopt-fp8-block"] and found.why.startswith("exact")
    with pytest.raises(Usage, match="does not run on h100"):
        pick(fp8, "neuron", "h100")
    with pytest.raises(Usage, match="no reader that is known"):
        pick(fp8, "ollama")


def test_exact_goes_before_small_and_small_before_large(tmp_path):
    model = wb.Model(write_tiny(tmp_path / "fp8", **EVEN))
    listed = [w for w in model.ways()["ways"] if w["refused"] is None]
    keys = [(not w["exact"], -(w["sqnr_db"] or 0), w["bytes"]) for w in listed]
    assert keys == sorted(keys) and listed[0]["exact"] and not listed[-1]["exact"]

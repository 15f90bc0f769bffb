"""The way that a page fills in for a tensor is the way that `trace` tells."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.failures.tools import build, llama, qwen3_moe
from weighbridge.api import open as open_model
from weighbridge.check.case import Case
from weighbridge.convert import trace
from weighbridge.convert.run import convert
from weighbridge.overview import ways as ways_module
from weighbridge.overview.groups import kindreds
from weighbridge.overview.tensors import tensors
from weighbridge.overview.ways import Ways
from weighbridge.plan.plan import Plan
from weighbridge.testing.tiny import EVEN, RAGGED, write_tiny

PLACE = re.compile(r"\{(\d+)(?:\+(\d+))?(?::0(\d+))?\}")


def fill(value: Any, numbers: tuple[int, ...]) -> Any:
    """As the page does it: `{0}`, `{0+2}`, `{0:02}`."""
    if isinstance(value, str):
        return PLACE.sub(lambda m: f"{numbers[int(m[1])] + int(m[2] or 0):0{int(m[3] or 0)}d}", value)
    if isinstance(value, list):
        return [fill(v, numbers) for v in value]
    return {k: fill(v, numbers) for k, v in value.items()} if isinstance(value, dict) else value


def ways_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """The filled-in way of every tensor that has one."""
    case = Case(plan.source.checkpoint)
    kin = kindreds(case)
    ways = Ways(plan, kin)
    document, found = tensors(case, kin, ways), {}
    for group in document["groups"]:
        if group["way"] < 0:
            continue
        for numbers in product(*(range(first, last + 1) for first, last in group["ranges"])):
            found[fill(group["name"], numbers)] = fill(ways.document()["list"][group["way"]], numbers)
    return found


def same(way: dict[str, Any], steps: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    assert steps[0]["op"] == "load" and steps[0]["detail"].endswith(way["steps"][0]["detail"])
    assert way["steps"][1:] == steps[1:]
    values = [row for row in rows if not row["name"].endswith((".scale", "_scale_inv"))]
    scales = [row for row in rows if row["name"].endswith((".scale", "_scale_inv"))]
    assert len(way["destination"]) + way["more"] == len(values)
    for shown, row in zip(way["destination"], values, strict=False):
        assert shown == {**row, "slice": _text(row)}
    assert way["scale"] == ({**scales[0], "slice": _text(scales[0])} if scales else None)


def _text(row: dict[str, Any]) -> str:
    """A matrix of a stack is told by its number."""
    words = [":" if (a, b) == (0, size) else f"{a}:{b}" for (a, b), size in zip(row["slice"], row["shape"], strict=True)]
    return "[" + ", ".join([str(row["slice"][0][0]), *words[1:]] if len(words) == 3 else words) + "]"


def compare(plan: Plan) -> int:
    """Every tensor of the source against the functions of `trace`."""
    ways = ways_of(plan)
    for bound in plan.source.bound:
        hits = trace.find(plan, bound.weight.name)
        places = list({(t.stored.name, p.part): (t, p.part) for t, p in hits}.values())
        same(ways[bound.stored.name], trace.steps(plan, *hits[0]), [row for t, part in places for row in trace.destination_rows(t, part)])
        for tensor in bound.tensors.values():
            assert ways[tensor.name] == ways[bound.stored.name]
    return len(ways)


@pytest.mark.parametrize(("layout", "options"), [
    ("neuron", {}), ("neuron", {"attention": "exact", "tp": 4}), ("neuron", {"attention": "row"}), ("neuron", {"attention": "bf16"}), ("hf-bf16", {}), ("hf-fp8", {})])
def test_every_tensor_goes_as_trace_says(tmp_path: Path, layout: str, options: dict[str, Any]) -> None:
    model = open_model(write_tiny(tmp_path / "m", **EVEN))
    plan = model.plan(layout, **options)
    assert not plan.problems
    assert compare(plan) == len(model.checkpoint.tensors)


@pytest.mark.parametrize("make", [llama, qwen3_moe])
def test_other_families_to_bf16(tmp_path: Path, make: Any) -> None:
    tensors_, config = make()
    compare(open_model(build(tmp_path / "m", tensors_, config)).plan("hf-bf16"))


def test_ragged_sizes_to_bf16(tmp_path: Path) -> None:
    compare(open_model(write_tiny(tmp_path / "m", **RAGGED)).plan("hf-bf16"))


def test_a_sample_against_the_whole_document_of_trace(tmp_path: Path) -> None:
    plan = open_model(write_tiny(tmp_path / "m", **EVEN)).plan("neuron")
    ways = ways_of(plan)
    for name in ("model.layers.1.block_sparse_moe.experts.5.w2.weight", "model.layers.0.self_attn.k_proj.weight", "model.layers.1.block_sparse_moe.gate.weight",
                 "lm_head.weight", "model.layers.1.block_sparse_moe.experts.7.w3.weight_scale_inv"):
        told = trace.trace(plan, name)
        same(ways[name], told["steps"], told["destination"])


def test_the_way_back_from_neuron(tmp_path: Path) -> None:
    """Stacked tensors are taken apart: a way lists some destinations and counts the rest."""
    source = write_tiny(tmp_path / "m", **EVEN)
    convert(open_model(source).plan("neuron", attention="exact", tp=4), tmp_path / "n")
    plan = open_model(tmp_path / "n").plan("hf-bf16")
    assert not plan.problems
    compare(plan)
    way = ways_of(plan)["layers.1.block_sparse_moe.expert_mlps.mlp_op.gate_up_proj.weight"]
    assert way["more"] == 8 and way["destination"][0]["name"] == "model.layers.1.block_sparse_moe.experts.0.w1.weight"


def test_what_no_piece_reads_has_no_way(tmp_path: Path) -> None:
    """A missing expert and a surplus tensor: the rest goes on, in more groups."""
    tensors_, config = qwen3_moe(layers=2, experts=4)
    name = next(n for n in tensors_ if "layers.1.mlp.experts.2.up_proj.weight" in n)
    del tensors_[name], tensors_[name + "_scale_inv"]
    tensors_["model.layers.0.surplus.weight"] = ("BF16", (2, 2))
    plan = open_model(build(tmp_path / "m", tensors_, config)).plan("hf-bf16")
    ways = ways_of(plan)
    assert {p.code for p in plan.problems} >= {"missing-tensor", "surplus-tensor"}
    assert "model.layers.0.surplus.weight" not in ways
    assert set(ways) == set(tensors_) - {"model.layers.0.surplus.weight"}


@given(st.dictionaries(st.tuples(st.integers(0, 6), st.integers(0, 3)), st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=16))
def test_a_rule_holds_for_each_of_its_tensors(numbers: dict[tuple[int, int], tuple[int, int]]) -> None:
    members = [ways_module._Member(own, plan, place) for place, (own, plan) in enumerate(numbers.items())]
    found = ways_module._explained(members)
    assert sorted(place for _, places in found for place in places) == list(range(len(members)))
    for rule, places in found:
        assert all(tuple(int(fill(text, members[place].own)) for text in rule) == members[place].numbers for place in places)

"""A manifest can explain, never permit: whatever B says of itself, what no rounding does is wrong."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import weighbridge as wb
from tests.verify.tools import SMALL, WAYS, change_manifest, f32, hops, made, span, spans, without_manifest
from weighbridge.errors import Refused
from weighbridge.formats.scheme import filled, plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.plan.bind import bind
from weighbridge.testing.tiny import write_tiny
from weighbridge.verify.bounds import Relation

Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("trust") / "src", **SMALL)


def zero_weights(folder: Path) -> None:
    for tensor in spans(folder):
        if tensor.dtype in ("F8_E4M3", "BF16") and len(tensor.shape) > 1:
            tensor.write(bytes(tensor.size))


def planted(first: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """A chain of every way that this tool has, over and over, which begins at the same source."""
    ways = itertools.cycle(WAYS.values())
    found = [first]
    for _ in range(count):
        layout, options = next(ways)
        shards = options.get("shards")
        told = {k: v for k, v in options.items() if k != "shards"}
        found.append({"from": "0" * 64, "layout": "neuron-shards" if shards else layout, "options": first["options"] | told,
                      "lossy": ["quantize", "requantize", "legacy-448-240", "reciprocal", "decode"]})
    return found


@pytest.mark.parametrize("way", ["hf-fp8", "hf-bf16", "neuron", "neuron-row", "legacy", "shards"])
@pytest.mark.parametrize("count", [0, 3, 6, 20])
def test_zeros_are_never_weights(source, tmp_path, way, count):
    out = made(source, tmp_path / "out", way)
    (own,) = hops(out)
    change_manifest(out, hops=[*planted(own, count), own | {"from": "0" * 64}] if count else [own])
    zero_weights(out)
    found = wb.open(source).verify(out)
    assert found["grades"]["wrong"] >= found["weights"] - 12 and not found["ok"]  # router and norms are F32 or vectors


def test_twenty_planted_hops_leave_a_ceiling(source, tmp_path):
    """Whatever is named, no bound reaches a quarter of a value; and repeating a hop adds nothing."""
    out = made(source, tmp_path / "out", "neuron-row")
    (own,) = hops(out)
    def bound(listed):
        change_manifest(out, hops=listed)
        one, two = bind(wb.open(source).checkpoint), bind(wb.open(out).checkpoint)
        relation = Relation(one, two)
        a, b = filled(SCHEMES["fp8-block"], (128, 128)), filled(SCHEMES["neuron-fp8"], (1, 128))
        return relation.bound(a, b, "layers.0.attn.q", False, False)
    once = bound([own])
    assert bound([own, *[own | {"from": "0" * 64}] * 20]).relative == pytest.approx(once.relative)
    for count in (1, 3, 5, 7, 20, 200):
        assert bound([*planted(own, count), own | {"from": "0" * 64}]).relative < 0.25
    rounding = [own | {"from": "0" * 64, "layout": "hf-fp8", "options": own["options"] | {"block": [size, size]}} for size in (48, 40)]
    for count in (2, 10, 30):  # blocks that do not nest: each hop rounds anew
        assert 0.1 < bound([own, *rounding * count, own | {"from": "0" * 64}]).relative < 0.25
    assert bound([own, *rounding * 10_000, own | {"from": "0" * 64}]).relative < 0.1  # longer than any chain that there is: it explains nothing


@pytest.mark.parametrize("field,value", [
    ("scale_rule", "reciprocal"), ("scale_rule", "x" * 100_000), ("scale_rule", 5), ("scale_rule", None), ("attention", ["exact"]), ("attention", "row\n"),
    ("block", "128"), ("block", [0, 0]), ("block", [1, -1]), ("block", [1e300, 1]), ("block", [128]), ("block", None), ("tp", "4"), ("tp", -1), ("tp", 1 << 62),
    ("tp", True), ("moe_ep", 1 << 24), ("allow", "reciprocal"), ("allow", [1]), ("scale_dtype", "F8_E8M0"),
])
def test_options_of_wrong_types_permit_nothing(source, tmp_path, field, value):
    out = made(source, tmp_path / "out", "neuron")
    (own,) = hops(out)
    change_manifest(out, options=own["options"] | {field: value}, hops=[own | {"options": own["options"] | {field: value}}])
    assert isinstance(wb.open(source).verify(out)["ok"], bool)
    zero_weights(out)
    assert not wb.open(source).verify(out)["ok"]


@pytest.mark.parametrize("value", [
    None, "halve", 5, [], [None], ["x"], [[]], {"from": 1}, [{}], [{"from": None}], [{"from": "cycle"}], [{"from": "cycle", "layout": "hf-fp8"}],
    [{"from": "cycle", "layout": "no-layout", "options": {}}], [{"from": "cycle", "layout": ["hf-fp8"], "options": {}}],
    [{"from": "cycle", "layout": "neuron", "options": None}], [{"from": "cycle", "layout": "hf-fp8", "options": {}, "lossy": ["quantize"] * 1000}] * 3,
    [{"from": "cycle", "layout": "hf-fp8", "options": {"block": [1, 1]}}] * 500,
])
def test_hops_of_any_shape_are_no_permission(source, tmp_path, value):
    """`from`s that go in circles, layouts that do not exist, lists that are none."""
    out = made(source, tmp_path / "out", "hf-fp8")
    digest = wb.open(source).checkpoint.digest
    if isinstance(value, list):
        value = [entry | {"from": digest} if isinstance(entry, dict) and entry.get("from") == "cycle" else entry for entry in value]
    change_manifest(out, hops=value)
    assert wb.open(source).verify(out)["ok"]
    zero_weights(out)
    found = wb.open(source).verify(out)
    assert not found["ok"] and found["grades"]["wrong"] >= 28


@pytest.mark.parametrize("way", ["hf-fp8", "neuron", "neuron-row", "neuron-exact", "shards"])
@pytest.mark.parametrize("manifest", [True, False])
def test_a_blown_up_scale_permits_nothing(source, tmp_path, way, manifest):
    """A share of the scale is the bound of small values: the scale must be one that A's values explain."""
    out = made(source, tmp_path / "out", way)
    if not manifest:
        without_manifest(out)
    else:
        change_manifest(out, version="0")  # so that the bounds judge, not the repeated conversion
    assert wb.open(source).verify(out)["ok"]
    for tensor in spans(out):
        if tensor.name.endswith(("weight_scale_inv", ".scale")):
            tensor.write(np.full(tensor.size // 4, 1e30, np.float32).tobytes())
        elif tensor.dtype == "F8_E4M3":
            tensor.write(bytes(tensor.size))
    found = wb.open(source).verify(out)
    assert not found["ok"] and found["grades"]["wrong"] >= 20
    assert not wb.open(out).verify(source)["ok"]


def test_a_larger_scale_of_one_block_hides_no_more_than_small_values(source, tmp_path):
    """One scale of B a thousand times larger, its codes zero: the block's values are far above what a rounding to A's scale leaves."""
    out = without_manifest(made(source, tmp_path / "out", "neuron-exact"))
    codes, scale = span(out, "layers.0.self_attn.q_proj.weight"), span(out, "layers.0.self_attn.q_proj.scale")
    grid = f32(scale)
    grid[0] *= 1000
    scale.write(grid.tobytes())
    codes.write(bytes(128))
    found = wb.open(source).verify(out)
    assert found["worst"]["name"] == Q and found["worst"]["grade"] == "wrong"


def test_a_manifest_of_this_version_must_be_true(source, tmp_path):
    """Bytes within every bound, and yet not what convert writes: wrong. Of another version, or without a word, the bounds judge."""
    out = made(source, tmp_path / "out", "neuron-row")
    tensor = span(out, "layers.0.self_attn.q_proj.weight")
    codes = np.frombuffer(tensor.bytes(), np.uint8).copy()
    place = int(np.flatnonzero((codes & 0x7F) == 1)[0])  # the smallest code: its lowest bit is half a step more than nothing
    codes[place] ^= 0x80
    tensor.write(codes.tobytes())
    strict = wb.open(source).verify(out)
    assert not strict["ok"] and strict["reproduced"]["different"] == 1
    change_manifest(out, version="0.0.0")
    loose = wb.open(source).verify(out)
    assert loose["reproduced"]["made"] == "" and "another version made it (0.0.0)" in loose["reproduced"]["why_not"]


def test_a_conversion_that_would_write_other_tensors_is_not_repeated(source, tmp_path):
    out = made(source, tmp_path / "out", "neuron")
    (own,) = hops(out)
    change_manifest(out, hops=[own | {"options": own["options"] | {"attention": "row"}}])
    found = wb.open(source).verify(out)
    assert "writes other tensors: layers.0.self_attn.o_proj" in found["reproduced"]["why_not"]


def test_what_a_says_stands_before_what_b_says(source, tmp_path):
    """B claims a long way from A; A says that it was made from B in one step, and must then be what that step makes."""
    out = made(source, tmp_path / "out", "neuron")
    tampered = write_tiny(tmp_path / "src", **SMALL)
    (own,) = hops(out)
    claim = planted(own | {"from": wb.open(out).checkpoint.digest}, 4)
    (tampered / "weighbridge.json").write_text(json.dumps({"hops": [*claim, {**own, "layout": "hf-fp8", "from": "0" * 64}]}))
    change_manifest(out, version="0")  # so that the bounds judge: one step by A's word, and a wide one by B's
    relation = Relation(bind(wb.open(out).checkpoint), bind(wb.open(tampered).checkpoint))
    assert relation.chain.made_is_a and len(relation.chain.hops) == 1
    tensor = span(tampered, "model.layers.0.block_sparse_moe.experts.0.w1.weight")
    codes = np.frombuffer(tensor.bytes(), np.uint8).copy()
    large = np.flatnonzero((codes & 0x7F) > 0x40)[:100]
    codes[large] ^= 1  # an eighth of the value or less
    tensor.write(codes.tobytes())
    assert not wb.open(out).verify(tampered)["ok"]


CHAINS = [ways for ways in itertools.product(sorted(WAYS), repeat=3)]


@pytest.mark.parametrize("ways", random.Random(7).sample(CHAINS, 24), ids="-".join)
def test_every_chain_of_true_conversions_is_within_its_bounds(source, tmp_path, ways):
    """Three conversions in a row, in both directions."""
    at = source
    try:
        for number, way in enumerate(ways):
            at = made(at, tmp_path / str(number), way)
    except Refused as error:
        pytest.skip(f"this chain has no way: {error.first.message}")
    assert wb.open(source).verify(at)["ok"]
    assert wb.open(at).verify(source)["ok"]


def test_a_float_is_never_widened_by_a_chain_of_codes(source, tmp_path):
    """Norms and routers are in no chain of codes: the layouts say so."""
    out = made(source, tmp_path / "out", "hf-fp8")
    (own,) = hops(out)
    change_manifest(out, hops=[*planted(own, 5), own | {"from": "0" * 64}])
    relation = Relation(bind(wb.open(source).checkpoint), bind(wb.open(out).checkpoint))
    assert relation.bound(plain("BF16"), plain("BF16"), "layers.0.input_norm", False, False).relative == 0
    assert relation.bound(plain("F32"), plain("F32"), "layers.0.moe.router", False, False).relative <= 2.0**-8


def test_codes_that_neuron_reads_as_infinity_are_not_the_same_bytes(source, tmp_path):
    """The published codes and scales in NxD's layout: equal bytes in equal blocks, and every code above 240 means another value."""
    out = without_manifest(made(source, tmp_path / "out", "neuron"))
    experts = [[span(source, f"model.layers.0.block_sparse_moe.experts.{e}.w2.{leaf}") for e in range(8)] for leaf in ("weight", "weight_scale_inv")]
    codes = np.stack([np.frombuffer(s.bytes(), np.uint8).reshape(128, 128).T for s in experts[0]])
    name = "layers.0.block_sparse_moe.expert_mlps.mlp_op.down_proj."
    span(out, name + "weight").write(np.ascontiguousarray(codes).tobytes())
    span(out, name + "scale").write(b"".join(s.bytes() for s in experts[1]))
    found = wb.open(source).verify(out)
    wrong = [row for row in found["inexact"] if row["grade"] == "wrong"]
    assert len(wrong) == 8 and all(row["name"].endswith(".w2.weight") and "inf" in row["first"] for row in wrong)


def test_there_and_back_and_there_again(source, tmp_path):
    """The third folder has the headers of the first, so both sides of the last step say that they were made from the other: the true one counts."""
    there = made(source, tmp_path / "there", "legacy")
    back = made(there, tmp_path / "back", "hf-bf16")
    again = made(back, tmp_path / "again", "legacy")
    assert wb.open(there).checkpoint.digest == wb.open(again).checkpoint.digest
    found = wb.open(back).verify(again)
    assert found["ok"] and found["reproduced"]["made"] == "B" and found["reproduced"]["different"] == 0
    assert wb.open(again).verify(back)["ok"] and wb.open(back).verify(there)["reproduced"]["made"] == "A"
    with span(again, "layers.0.self_attn.q_proj.weight").flipped(3, 0):
        assert not wb.open(back).verify(again)["ok"] and not wb.open(again).verify(back)["ok"]


CODED = ("hf-fp8", "ct-int4", "awq-int4", "gptq-int4", "ct-nvfp4", "ct-mxfp4", "ct-int8", "ct-fp8-channel")


@pytest.fixture(scope="module")
def plain_source(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("plain") / "src", **SMALL, encoding="bf16")


@pytest.mark.parametrize("last", ["hf-bf16", *CODED])
@pytest.mark.parametrize("first", CODED)
def test_a_chain_over_coarse_codes_is_explained_and_permits_no_zeros(plain_source, tmp_path, first, last):
    """Two true conversions are within their bounds, in both directions; all-zero weights are not, whatever is planted between them."""
    wb.open(plain_source).convert(tmp_path / "1", first)
    try:
        wb.open(tmp_path / "1").convert(tmp_path / "2", last, inexact=True)
    except Refused as error:
        assert "zero points" in error.first.message  # the one thing that --inexact does not open
        return
    out = tmp_path / "2"
    for a, b in ((plain_source, out), (out, plain_source)):
        found = wb.open(a).verify(b)
        assert found["ok"], found["worst"]
    own = hops(out)
    change_manifest(out, hops=[own[0], *own[:1] * 3, *own[1:]])
    codes = {bound.weight.name for bound in bind(wb.open(out).checkpoint).bound if len(bound.weight.shape) > 1 and bound.weight.dtype != "F32"}
    scales = {t.name for bound in bind(wb.open(out).checkpoint).bound for t in bound.tensors.values() if "scale" in t.name}
    for tensor in spans(out):
        if tensor.name in (scales if last in ("awq-int4", "gptq-int4", "ct-int4") else codes):
            tensor.write(bytes(tensor.size))
    for a, b in ((plain_source, out), (out, plain_source)):
        found = wb.open(a).verify(b)
        assert not found["ok"] and found["grades"]["wrong"] >= 28, found["grades"]

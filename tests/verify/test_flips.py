"""A flipped bit anywhere in the stored tensors of a converted checkpoint is found: also one within the bound of a rounding."""

from __future__ import annotations

import os
import random

import pytest

import weighbridge as wb
from tests.verify.tools import SMALL, made, spans, without_manifest
from weighbridge.convert.contents import verify_folder
from weighbridge.errors import WeighbridgeError
from weighbridge.testing.tiny import write_tiny

WAYS = ("hf-fp8", "hf-bf16", "neuron", "shards")
CODED = ("ct-int4", "awq-int4", "gptq-int4", "ct-nvfp4", "ct-mxfp4", "ct-fp8-channel")
FLIPS = int(os.environ.get("WEIGHBRIDGE_FLIPS", "160"))  # `make test-flips` takes 1,000


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("flips") / "src", **SMALL)


@pytest.mark.parametrize("way", WAYS)
def test_every_flip_is_found(source, tmp_path, way):
    """Tensors by turns, so that the small ones are flipped as often as the large; each bit of a byte is as likely."""
    out = made(source, tmp_path / "out", way)
    assert wb.open(source).verify(out)["reproduced"]["different"] == 0
    draw, tensors, missed = random.Random(f"{way} 1"), spans(out), []
    for _ in range(FLIPS // len(WAYS)):
        tensor = draw.choice(tensors)
        offset, bit = draw.randrange(tensor.size), draw.randrange(8)
        with tensor.flipped(offset, bit):
            if wb.open(source).verify(out)["ok"] or verify_folder(out)["ok"]:
                missed.append((tensor.file.name, tensor.name, offset, bit))
    assert not missed
    assert wb.open(source).verify(out)["ok"]  # all bits are back


@pytest.mark.parametrize("layout", CODED)
def test_every_flip_is_found_in_packed_codes(source, tmp_path, layout):
    """Codes in words and bytes, coded scales, divisors, zero points, shapes and orders."""
    out = tmp_path / "out"
    wb.open(source).convert(out, layout, inexact=True)
    assert wb.open(source).verify(out)["reproduced"]["different"] == 0
    draw, tensors, missed = random.Random(f"{layout} 1"), spans(out), []
    for _ in range(FLIPS // len(CODED)):
        tensor = draw.choice(tensors)
        offset, bit = draw.randrange(tensor.size), draw.randrange(8)
        with tensor.flipped(offset, bit):
            if verify_folder(out)["ok"]:
                missed.append((tensor.file.name, tensor.name, offset, bit))
            try:
                if wb.open(source).verify(out)["ok"]:
                    missed.append((tensor.file.name, tensor.name, offset, bit))
            except WeighbridgeError:
                pass  # a damaged shape or order: no verdict, and no all-clear
    assert not missed
    assert wb.open(source).verify(out)["ok"]


@pytest.mark.parametrize("way", ["hf-fp8", "hf-bf16", "neuron", "shards"])
def test_every_flip_of_a_plain_copy_is_found_in_both_directions(source, tmp_path, way):
    """A copy in the same layout must be equal: no manifest is needed to see it. The sign of a zero, and scales beside zeros, are no values."""
    out, copy = made(source, tmp_path / "out", way), made(source, tmp_path / "copy", way)
    draw, tensors = random.Random(f"{way} 2"), [s for s in spans(without_manifest(copy)) if s.size]
    for _ in range(12):
        tensor = draw.choice(tensors)
        offset, bit = draw.randrange(tensor.size), draw.randrange(8)
        zero = not any(tensor.bytes()[offset // 4 * 4 : offset // 4 * 4 + 4])
        with tensor.flipped(offset, bit):
            there, back = wb.open(out).verify(copy), wb.open(copy).verify(out)
        assert zero or not there["ok"], (tensor.name, offset, bit)
        assert zero or not back["ok"], (tensor.name, offset, bit)


def test_a_flip_within_the_bound_is_found_by_repeating_the_conversion(source, tmp_path):
    """The lowest bit of a BF16 significand: for about half of the values the rounding could have done it, so the bound alone cannot see it."""
    out, plain = made(source, tmp_path / "out", "hf-bf16"), without_manifest(made(source, tmp_path / "plain", "hf-bf16"))
    name, unseen = "model.layers.0.self_attn.q_proj.weight", 0
    seen, blind = (next(s for s in spans(folder) if s.name == name) for folder in (out, plain))
    for column in range(8):
        offset = 2 * (3 * seen.shape[1] + column)
        with blind.flipped(offset, 0):
            unseen += wb.open(source).verify(plain)["ok"]
        with seen.flipped(offset, 0):
            found = wb.open(source).verify(out)
        assert not found["ok"] and found["grades"]["wrong"] == 1 and found["worst"]["name"] == name
        assert f"layers.0.attn.q: stored row 3, column {column}: " in found["worst"]["first"]
        assert found["reproduced"] == {"made": "B", "tensors": found["weights"], "different": 1, "why_not": ""}
    assert unseen  # else the test would show nothing


def test_the_made_side_may_be_a(source, tmp_path):
    out = made(source, tmp_path / "out", "neuron-row")
    assert wb.open(out).verify(source)["reproduced"]["made"] == "A"
    tensor = next(s for s in spans(out) if s.name.endswith("o_proj.weight"))
    with tensor.flipped(7, 0):
        found = wb.open(out).verify(source)
    assert found["worst"]["name"] == "layers.0.self_attn.o_proj.weight" and found["grades"]["wrong"] == 1


def test_a_sample_repeats_only_what_it_looks_at(source, tmp_path):
    out = made(source, tmp_path / "out", "hf-bf16")
    found = wb.open(source).verify(out, sample=4, seed=1)
    assert found["ok"] and found["weights"] == 4 and found["reproduced"]["tensors"] == 4
    (left,) = found["not_compared"]
    assert left["reason"] == "not in the sample" and left["count"] == wb.open(source).verify(out)["weights"] - 4

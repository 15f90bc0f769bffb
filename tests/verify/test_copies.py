"""Ranks hold copies, constants and zeros: each of them is looked at, with a manifest and without."""

from __future__ import annotations

import struct

import numpy as np
import pytest

import weighbridge as wb
from tests.verify.tools import SMALL, f32, made, span, spans, without_manifest
from weighbridge.testing.safetensors_writer import read_header, write_file
from weighbridge.testing.tiny import write_tiny

LAYER = "layers.0."
COPIES = ("norm.weight", f"{LAYER}input_layernorm.weight", f"{LAYER}post_attention_layernorm.weight", f"{LAYER}self_attn.q_norm.weight",
          f"{LAYER}self_attn.k_norm.weight", f"{LAYER}block_sparse_moe.router.linear_router.weight",
          f"{LAYER}block_sparse_moe.router.e_score_correction_bias", f"{LAYER}self_attn.qkv_proj.k_proj.weight",
          f"{LAYER}self_attn.qkv_proj.v_proj.weight", f"{LAYER}self_attn.qkv_proj.k_proj.scale")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("copies") / "src", **SMALL)


@pytest.fixture(scope="module")
def shards(source, tmp_path_factory):
    """Without a manifest: the bounds alone judge."""
    return without_manifest(made(source, tmp_path_factory.mktemp("copies") / "out", "shards"))


@pytest.mark.parametrize("rank", range(4))
@pytest.mark.parametrize("name", COPIES)
def test_every_copy_on_every_rank_is_compared(source, shards, name, rank):
    assert wb.open(source).verify(shards)["ok"]
    tensor = span(shards, name, f"tp{rank}_")
    scale = tensor.dtype == "F32"
    with tensor.flipped(tensor.size // 8 * 4 + (2 if scale else 1), 7 if scale else 6):  # an exponent's bit
        there, back = wb.open(source).verify(shards), wb.open(shards).verify(source)
    assert not there["ok"] and there["grades"]["wrong"] == 1
    assert not back["ok"] and back["worst"]["name"].startswith(f"tp{rank}/")


def test_copies_do_not_count_twice(source, shards):
    """Power and values are those of the weights, however often a weight is held."""
    found = wb.open(source).verify(shards)
    plain = wb.open(source).verify(source)
    assert found["weights"] == plain["weights"]
    worst = min(found["inexact"], key=lambda row: row["equal_share"])
    assert 0 <= worst["equal_share"] <= 1


def test_constants_are_what_the_layout_says(source, shards):
    constants = [s for s in spans(shards) if s.dtype == "I32"]
    assert len(constants) == wb.open(source).verify(shards)["beside"]["constants"] == 16
    for tensor in constants:
        old = tensor.bytes()
        (value,) = struct.unpack("<i", old[:4])
        tensor.write(struct.pack("<i", value ^ 1))
        found = wb.open(source).verify(shards)
        tensor.write(old)
        (fault,) = found["beside"]["wrong"]
        assert not found["ok"] and fault["what"] == "constant" and fault["name"].endswith(tensor.name)
        assert fault["first"] == f"[0] is {value ^ 1}, the layout says {value}"


def test_a_constant_of_another_dtype_is_named(source, tmp_path):
    out = without_manifest(made(source, tmp_path / "out", "shards"))
    file = out / "weights" / "tp1_sharded_checkpoint.safetensors"
    header, _ = read_header(file)
    tensors = {s.name: (s.dtype, s.shape, s.bytes()) for s in spans(out) if s.file == file}
    tensors["rank_util.rank"] = ("F32", (1,), struct.pack("<f", 1.0))
    assert "rank_util.rank" in header
    write_file(file, tensors)
    (fault,) = wb.open(source).verify(out)["beside"]["wrong"]
    assert fault["first"] == "F32 [1]; the layout says I32 [1]"


def test_padding_must_be_zero(source, shards):
    """o_proj's columns between the heads: a code there multiplies the mean of v, which is not zero."""
    tensor = next(s for s in spans(shards) if s.name.endswith("o_proj.weight") and not any(s.bytes()[-64:]))
    with tensor.flipped(tensor.size - 2, 5):
        found = wb.open(source).verify(shards)
    (fault,) = found["beside"]["wrong"]
    assert not found["ok"] and fault["what"] == "padding" and "belongs to no weight and is not zero" in fault["first"]
    with tensor.flipped(tensor.size - 1, 7):  # the sign of a zero
        assert wb.open(source).verify(shards)["ok"]


def test_scales_of_padding_are_named_as_not_compared_and_must_be_finite(source, tmp_path):
    out = without_manifest(made(source, tmp_path / "out", "shards-exact"))
    found = wb.open(source).verify(out)
    (left,) = [row for row in found["not_compared"] if "scales of padding" in row["reason"]]
    assert found["ok"] and left["count"] == len(left["names"]) > 0
    tensor = next(s for s in spans(out) if s.name.endswith("o_proj.scale") and not f32(s).all())
    scale = f32(tensor)
    place = int(np.flatnonzero(scale == 0)[0])
    for value, ok in ((2.0, True), (np.nan, False), (np.inf, False)):
        scale[place] = value
        tensor.write(scale.tobytes())
        assert wb.open(source).verify(out)["ok"] == ok, value

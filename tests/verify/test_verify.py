"""`verify` grades what a user would fear: a changed byte, a wrong scale, a lost or an extra weight."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest

import weighbridge as wb
from weighbridge.testing.tiny import EVEN, RAGGED, write_tiny

Q = "model.layers.0.self_attn.q_proj.weight"
SCALE = "model.layers.0.self_attn.q_proj.weight_scale_inv"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("verify") / "src", **EVEN)


def place(folder: Path, name: str) -> tuple[Path, int, int]:
    """File, first byte and size of a stored tensor."""
    for file in sorted(folder.rglob("*.safetensors")):
        raw = file.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        entry = json.loads(raw[8 : 8 + length]).get(name)
        if entry:
            begin, end = entry["data_offsets"]
            return file, 8 + length + begin, end - begin
    raise KeyError(name)


def poke(folder: Path, name: str, offset: int, change) -> None:
    """Change one byte of a tensor."""
    file, start, _ = place(folder, name)
    raw = bytearray(file.read_bytes())
    raw[start + offset] = change(raw[start + offset])
    file.write_bytes(raw)


def test_a_copy_is_identical(source, tmp_path):
    shutil.copytree(source, tmp_path / "copy")
    found = wb.open(source).verify(tmp_path / "copy")
    assert found["ok"] and found["grades"] == {"identical": found["weights"], "exact": 0, "bounded": 0, "wrong": 0}
    assert found["total_sqnr_db"] is None


@pytest.mark.parametrize("attention", ["published", "row", "bf16", "exact"])
def test_every_form_keeps_its_bound_in_both_directions(source, tmp_path, attention):
    wb.open(source).convert(tmp_path / "out", "neuron", attention=attention)
    assert wb.open(source).verify(tmp_path / "out")["ok"]
    assert wb.open(tmp_path / "out").verify(source)["ok"]


def test_exact_loses_only_odd_small_codes(source, tmp_path):
    wb.open(source).convert(tmp_path / "out", "neuron", attention="exact")
    found = wb.open(source).verify(tmp_path / "out")
    assert found["ok"] and found["total_sqnr_db"] > 120
    assert all(row["sqnr_db"] > 120 for row in found["inexact"])


def test_legacy_is_about_31_db(source, tmp_path):
    wb.open(source).convert(tmp_path / "out", "neuron", attention="exact", scale_rule="legacy-448-240")
    found = wb.open(source).verify(tmp_path / "out")
    assert found["ok"] and all(30.5 < row["sqnr_db"] < 32.5 for row in found["inexact"])


def test_reciprocal_is_wrong_with_its_first_place(source, tmp_path):
    wb.open(source).convert(tmp_path / "out", "neuron", scale_rule="reciprocal", allow=("reciprocal",))
    found = wb.open(source).verify(tmp_path / "out")
    assert not found["ok"] and found["grades"]["wrong"] > 0
    assert found["worst"]["grade"] == "wrong" and "row 0, column" in found["worst"]["first"]


@pytest.mark.parametrize("bit", [0x01, 0x08, 0x80])
def test_one_changed_code_in_an_exact_conversion_is_found(source, tmp_path, bit):
    """Also a change that any requantization could make: the manifest says that nothing was requantized."""
    wb.open(source).convert(tmp_path / "out", "neuron", attention="exact")
    name = "layers.1.block_sparse_moe.expert_mlps.mlp_op.down_proj.weight"
    _, start, size = place(tmp_path / "out", name)
    file, _, _ = place(tmp_path / "out", name)
    codes = file.read_bytes()[start : start + size]
    big = max(range(size), key=lambda i: codes[i] & 0x7F)
    poke(tmp_path / "out", name, big, lambda code: code ^ bit)
    found = wb.open(source).verify(tmp_path / "out")
    assert found["grades"]["wrong"] == 1 and not found["ok"]


def test_codes_above_240_are_infinite_for_neuron(source, tmp_path):
    wb.open(source).convert(tmp_path / "out", "neuron", attention="exact")
    poke(tmp_path / "out", "layers.0.self_attn.q_proj.weight", 5, lambda _: 0x7E)
    found = wb.open(source).verify(tmp_path / "out")
    assert not found["ok"] and "inf" in found["worst"]["first"]


def test_a_changed_scale_is_found(source, tmp_path):
    shutil.copytree(source, tmp_path / "copy")
    poke(tmp_path / "copy", SCALE, 2, lambda byte: byte ^ 1)
    found = wb.open(source).verify(tmp_path / "copy")
    assert found["worst"]["name"] == Q and not found["ok"]


def test_swapped_experts_are_found(source, tmp_path):
    shutil.copytree(source, tmp_path / "copy")
    names = [f"model.layers.0.block_sparse_moe.experts.{e}.w1.weight" for e in (0, 1)]
    (f0, s0, n), (f1, s1, _) = place(tmp_path / "copy", names[0]), place(tmp_path / "copy", names[1])
    one, two = f0.read_bytes()[s0 : s0 + n], f1.read_bytes()[s1 : s1 + n]
    for file, start, data in ((f0, s0, two), (f1, s1, one)):
        raw = bytearray(file.read_bytes())
        raw[start : start + n] = data
        file.write_bytes(raw)
    assert wb.open(source).verify(tmp_path / "copy")["grades"]["wrong"] == 2


def test_missing_and_surplus_fail(source, tmp_path):
    from weighbridge.testing.hostile import FAULTS

    for fault, key in (("missing_tensor", "missing"), ("surplus_tensor", "surplus")):
        FAULTS[fault](shutil.copytree(source, tmp_path / fault))
        found = wb.open(source).verify(tmp_path / fault)
        assert found[key] and not found["ok"]


def test_a_sample_is_a_part_and_repeats(source, tmp_path):
    shutil.copytree(source, tmp_path / "copy")
    found = wb.open(source).verify(tmp_path / "copy", sample=5, seed=3)
    assert found["weights"] == 5 and found["ok"]


def test_ragged_blocks_survive_bf16_and_back(tmp_path):
    source = write_tiny(tmp_path / "src", **RAGGED)
    wb.open(source).convert(tmp_path / "bf16", "hf-bf16")
    wb.open(tmp_path / "bf16").convert(tmp_path / "fp8", "hf-fp8")
    assert wb.open(source).verify(tmp_path / "bf16")["ok"]
    assert wb.open(source).verify(tmp_path / "fp8")["ok"]

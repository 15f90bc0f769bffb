"""Scales that are rounded to BF16 lose something: the plan says so, the manifest measures it, the bound holds."""

from __future__ import annotations

import numpy as np
import pytest

import weighbridge.api as wb
from tests.plan.tools import SCALE, assert_same_tensors, convert, decode, load_json, read_folder
from weighbridge.testing.tiny import EVEN, write_tiny

SMALL = EVEN | {"experts": 2, "layers": 1}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The same model in three encodings, its exact Neuron form, and that form doubled again."""
    at = tmp_path_factory.mktemp("bf16")
    write_tiny(at / "f32", **SMALL)
    write_tiny(at / "bf16", **SMALL, scale_dtype="BF16")
    write_tiny(at / "plain", **SMALL, encoding="bf16")
    convert(at / "f32", at / "neuron", "neuron", attention="exact", tp=1)
    convert(at / "neuron", at / "doubled", "hf-fp8")  # exact: what Neuron's form holds
    return at


def values(folder) -> dict[str, np.ndarray]:
    """float32 values and the scale of every element of each quantized weight."""
    tensors = read_folder(folder)
    return {n.removesuffix(SCALE): decode(tensors[n.removesuffix(SCALE) + ".weight"], tensors[n]) for n in tensors if n.endswith(SCALE)}


def originals(folder, names) -> dict[str, np.ndarray]:
    tensors = read_folder(folder)
    return {n: tensors[n + ".weight"].astype(np.float32) for n in names}


@pytest.mark.parametrize("source", ["f32", "neuron", "plain"])
def test_the_plan_calls_it_lossy_and_the_bound_holds(places, source, tmp_path):
    plan = wb.open(places / source).plan("hf-fp8", scale_dtype="BF16")
    steps = {piece.part.weight: piece.step for target in plan.targets for piece in target.pieces if target.encoding.quantized}
    assert steps and all(step.lossy for step in steps.values())
    made, tensors = values(convert(places / source, tmp_path / "out", "hf-fp8", scale_dtype="BF16")), read_folder(tmp_path / "out")
    wanted = originals(places / source, made) if source == "plain" else values(places / ("doubled" if source == "neuron" else source))
    by_published = {w.published.removesuffix(".weight"): w.name for w in plan.inventory.weights.values()}
    for name, value in made.items():
        step, codes = steps[by_published[name]], np.ones(value.shape, np.float32)
        scale = decode(codes, tensors[name + SCALE])
        allowed = np.maximum(step.relative * np.abs(wanted[name]), step.absolute * scale)
        assert (np.abs(value - wanted[name]) <= allowed).all(), name


@pytest.mark.parametrize("source", ["f32", "neuron"])
def test_the_manifest_measures_it(places, source, tmp_path):
    out = convert(places / source, tmp_path / "out", "hf-fp8", scale_dtype="BF16")
    (row,) = load_json(out / "weighbridge.json")["lossy"]
    assert row["sqnr_db"] is not None and 45 < row["sqnr_db"] < 70


def test_scales_that_were_bf16_come_back_as_they_were(places, tmp_path):
    source = read_folder(places / "bf16")
    assert_same_tensors(read_folder(convert(places / "bf16", tmp_path / "a", "hf-fp8", scale_dtype="BF16")), source)
    widened = convert(places / "bf16", tmp_path / "b", "hf-fp8", scale_dtype="F32")
    assert_same_tensors(read_folder(convert(widened, tmp_path / "c", "hf-fp8", scale_dtype="BF16")), source)

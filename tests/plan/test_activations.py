"""Scales of activations from a file: one convention there, each layout's own in the output; whatever does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import weighbridge.api as wb
from weighbridge.errors import Refused, Usage, WeighbridgeError
from weighbridge.testing.tiny import EVEN, write_tiny

AMAX = 13.0  # the largest magnitude that a calibration saw
# What each library stores for it: FP8 amax / 448; INT8 amax / 127; NVFP4 as a multiplier amax / (6 * 448), as a divisor (6 * 448) / amax.
STORED = {"modelopt-fp8": (".input_scale", AMAX / 448), "ct-fp8-tensor": (".input_scale", AMAX / 448), "ct-int8": (".input_scale", AMAX / 127),
          "ct-nvfp4": (".input_global_scale", 2688 / AMAX), "modelopt-nvfp4": (".input_scale", AMAX / 2688)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return wb.Model(write_tiny(tmp_path_factory.mktemp("acts") / "src", **EVEN, encoding="bf16"))


def file_of(model, path, **other):
    source = model.source
    stems = [b.stored.stem for b in source.bound if source.weight(b.stored.placement.parts[0].weight).linear]
    save_file({stem + ".input_scale": np.array([AMAX / 448], np.float32) for stem in stems} | other, path)
    return str(path), stems


@pytest.mark.parametrize("layout", STORED)
def test_each_layout_stores_its_own_number(model, layout, tmp_path):
    path, stems = file_of(model, tmp_path / "scales.safetensors")
    model.convert(tmp_path / "out", layout, activation_scales=path)
    suffix, value = STORED[layout]
    again = wb.Model(tmp_path / "out")
    found = {name: t for name, t in again.checkpoint.tensors.items() if name.endswith(suffix)}
    assert {name.removesuffix(suffix) for name in found} == set(stems)
    for tensor in found.values():
        assert tensor.dtype == "F32" and np.frombuffer(again.source.read(tensor), np.float32) == pytest.approx([value], rel=1e-6)
    assert again.source.layout == layout and not again.source.problems
    assert model.verify(again)["ok"]


def test_the_same_scales_give_the_same_bytes_wherever_the_file_lies(model, tmp_path):
    path, _ = file_of(model, tmp_path / "a.safetensors")
    other, _ = file_of(model, tmp_path / "b.safetensors")
    third, _ = file_of(model, tmp_path / "c.safetensors")
    save_file({name: value * 2 for name, value in _read(third).items()}, third)
    digests = [model.plan("modelopt-fp8", activation_scales=p).digest for p in (path, other, third)]
    assert digests[0] == digests[1] != digests[2]


def _read(path):
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def test_a_module_without_one_or_of_nobody_is_named(model, tmp_path):
    path, stems = file_of(model, tmp_path / "s.safetensors", **{"model.layers.9.nothing.input_scale": np.array([1], np.float32)})
    with pytest.raises(Refused, match=r"1 scales are of modules that are not quantized here"):
        model.plan("modelopt-fp8", activation_scales=path).refuse()
    save_file({stems[0] + ".input_scale": np.array([1], np.float32)}, path)
    with pytest.raises(Refused, match=rf"no scale for {len(stems) - 1} of {len(stems)} modules"):
        model.plan("modelopt-fp8", activation_scales=path).refuse()


@pytest.mark.parametrize("layout", ["modelopt-fp8"])
def test_a_layout_that_needs_them_is_refused_without(model, layout, tmp_path):
    with pytest.raises(WeighbridgeError, match="needs a static scale"):
        model.convert(tmp_path / "out", layout)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_a_scale_that_is_none_is_refused(model, value, tmp_path):
    save_file({"a.input_scale": np.array([value], np.float32)}, tmp_path / "s.safetensors")
    with pytest.raises(Usage, match="a.input_scale is") as caught:
        model.plan("modelopt-fp8", activation_scales=str(tmp_path / "s.safetensors"))
    assert caught.value.first.hint == "a scale is finite and positive"


def test_files_that_hold_something_else_are_refused(model, tmp_path):
    path = tmp_path / "s.safetensors"
    with pytest.raises(WeighbridgeError, match="cannot be read"):
        model.plan("modelopt-fp8", activation_scales=str(path))
    path.write_bytes(b"no safetensors at all")
    with pytest.raises(WeighbridgeError):
        model.plan("modelopt-fp8", activation_scales=str(path))
    for other in ({"a.weight": np.ones(1, np.float32)}, {"a.input_scale": np.ones(2, np.float32)}, {"a.input_scale": np.ones(1, np.float16)}):
        save_file(other, path)
        with pytest.raises(Usage, match=r"a\.\w+ is F\d+ ") as caught:
            model.plan("modelopt-fp8", activation_scales=str(path))
        assert "one value each" in caught.value.first.hint

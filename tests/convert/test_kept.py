"""Kept scales: to plain values and back gives the same bytes; what was changed meanwhile is not forced under old scales."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open

import weighbridge.api as wb
from weighbridge.checkpoint.checkpoint import INDEX
from weighbridge.errors import Refused, Usage, WeighbridgeError
from weighbridge.plan.kept import NAME
from weighbridge.testing.tiny import EVEN, write_tiny

SMALL = EVEN | {"layers": 1, "experts": 4}
LAYOUTS = {"hf-fp8": {}, "ct-fp8-tensor": {}, "ct-fp8-channel": {"scale_dtype": "BF16"}, "ct-fp8-block": {"block": (64, 64)}, "ct-int8": {},
           "ct-int4": {"group": 64}, "ct-int4-zeros": {"zero_points": True}, "ct-nvfp4": {}, "ct-mxfp4": {}, "ct-mxfp8": {}, "modelopt-fp8-channel": {},
           "modelopt-nvfp4": {}, "gptq-int4": {}, "awq-int4": {"group": 64}}


def tensors(folder):
    model = wb.Model(folder)
    return {name: (t.dtype, t.shape, bytes(model.source.read(t))) for name, t in model.checkpoint.tensors.items()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return wb.Model(write_tiny(tmp_path_factory.mktemp("kept") / "src", **SMALL, encoding="bf16"))


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_way_back_is_byte_for_byte(plain, name, tmp_path):
    layout, options = name.removesuffix("-zeros"), LAYOUTS[name]
    plain.convert(tmp_path / "a", layout, **options)
    wb.Model(tmp_path / "a").convert(tmp_path / "plain", "hf-bf16", keep_scales=True)
    back = {k: v for k, v in options.items() if k == "zero_points"}  # sizes and dtypes are in the file
    wb.Model(tmp_path / "plain").convert(tmp_path / "b", layout, **back)
    assert tensors(tmp_path / "a") == tensors(tmp_path / "b")
    assert wb.Model(tmp_path / "a").verify(tmp_path / "b")["ok"]


@pytest.fixture
def kept(tmp_path):
    source = write_tiny(tmp_path / "src", **SMALL)
    wb.Model(source).convert(tmp_path / "plain", "hf-bf16", keep_scales=True)
    return source, tmp_path / "plain"


def test_no_reader_takes_the_file_for_a_shard(kept):
    _, plain = kept
    assert NAME not in [f.name for f in plain.glob("*.safetensors")] and NAME not in json.loads((plain / INDEX).read_text())["weight_map"].values()
    assert not wb.Model(plain).source.problems
    with safe_open(plain / NAME, "np") as file:  # it is safetensors all the same
        assert all(name.endswith(".weight_scale_inv") for name in file.keys()) and file.keys()
    listed = json.loads((plain / "weighbridge.json").read_text())["files"]
    assert listed[NAME]["bytes"] == (plain / NAME).stat().st_size and listed[NAME]["hash"]


def test_a_weight_that_changed_gets_new_scales_and_the_others_keep_theirs(kept, tmp_path):
    source, plain = kept
    model = wb.Model(plain)
    name = "model.layers.0.self_attn.q_proj.weight"
    tensor = model.checkpoint.tensors[name]
    with (plain / tensor.file).open("r+b") as file:
        file.seek(tensor.start)
        values = np.frombuffer(file.read(64), np.uint16).copy()
        values[3] = 0x4120  # 10.0, far above what its block's scale can hold
        file.seek(tensor.start)
        file.write(values.tobytes())
    result = wb.Model(plain).convert(tmp_path / "back", "hf-fp8").document()
    before, after = tensors(source), tensors(tmp_path / "back")
    changed = {n for n in before if before[n] != after[n]}
    assert changed == {name, name + "_scale_inv"}
    row = next(r for r in result["lossy"] if r["step"] == "restore")
    assert row["inexact"] == np.prod(tensor.shape) and row["values"] > row["inexact"]
    assert wb.Model(plain).verify(tmp_path / "back")["ok"]


def test_another_target_ignores_them(kept, tmp_path):
    _, plain = kept
    result = wb.Model(plain).convert(tmp_path / "other", "ct-int8").document()
    assert "restore" not in result["steps"]


def test_a_damaged_file_is_refused(kept):
    _, plain = kept
    data = (plain / NAME).read_bytes()
    (plain / NAME).write_bytes(data[:-5])
    with pytest.raises(Refused, match="the header describes"):
        _ = wb.Model(plain).source


def test_it_is_refused_where_nothing_can_be_kept(plain, tmp_path):
    with pytest.raises(WeighbridgeError, match="no scales to keep"):
        plain.convert(tmp_path / "x", "hf-bf16", keep_scales=True)
    with pytest.raises(Usage, match="takes no --keep-scales"):
        plain.plan("ct-int8", keep_scales=True)

"""`wb.to_torch` against what `convert` writes, and against torch.s own dequantization."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import weighbridge as wb

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"


def files(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as handle:
            found.update({name: handle.get_tensor(name) for name in handle.keys()})
    return found


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


@pytest.mark.parametrize("attention", ["published", "exact"])
def test_the_converted_stage_holds_the_files_under_the_loaders_names(tmp_path, attention):
    wb.open(DEMO).convert(tmp_path / "out", "neuron", attention=attention, tp=8)
    stored, view = files(tmp_path / "out"), wb.to_torch(DEMO, "neuron", attention=attention, tp=8)
    made = {"rank_util.rank"} | {f"layers.{n}.self_attn.rank_util.rank" for n in range(4)}
    renamed = {n.replace("self_attn.", "self_attn.qkv_proj.") if n.split(".")[-2] in ("q_proj", "k_proj", "v_proj") else n: n for n in stored}
    assert set(view) == set(renamed) | made
    for name, file_name in renamed.items():
        if not file_name.endswith(("q_norm.weight", "k_norm.weight")):
            assert same(view[name], stored[file_name]), name


def test_norms_are_padded_and_repeated_as_the_heads_are():
    view = wb.to_torch(DEMO, "neuron", tp=8)
    own = files(DEMO)["model.layers.0.self_attn.q_norm.weight"].view(2, 3, 128)
    padded = torch.cat([own, torch.zeros(2, 1, 128, dtype=own.dtype)], dim=1)
    assert torch.equal(view["layers.0.self_attn.q_norm.weight"], padded.reshape(-1))
    keys = files(DEMO)["model.layers.0.self_attn.k_norm.weight"].view(2, 128)
    assert torch.equal(view["layers.0.self_attn.k_norm.weight"], keys.repeat_interleave(4, dim=0).reshape(-1))
    assert torch.equal(view["rank_util.rank"], torch.arange(8, dtype=torch.int32))


def test_it_is_lazy_and_a_mapping():
    view = wb.to_torch(DEMO, "hf-bf16")
    assert "lm_head.weight" in view and len(list(view)) == len(view) == 139
    assert view["model.layers.0.self_attn.q_proj.weight"].dtype == torch.bfloat16
    with pytest.raises(KeyError):
        view["nothing"]


def test_bf16_is_torchs_own_dequantization():
    view, stored = wb.to_torch(DEMO, "hf-bf16"), files(DEMO)
    for name, weight in stored.items():
        if weight.dtype == torch.float8_e4m3fn:
            scale = stored[name + "_scale_inv"].repeat_interleave(128, 0).repeat_interleave(128, 1)
            assert same(view[name], (weight.float() * scale[: weight.shape[0], : weight.shape[1]]).bfloat16()), name

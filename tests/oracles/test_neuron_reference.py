"""What the public HF-to-Neuron script for MiniMax-M2 makes, stated again in torch from the fact sheet.

Experts: codes divided by 448/240 through BF16 and rounded to e4m3fn, scales times 448/240 in float32, both turned and
stacked. Attention q/k/v: decoded in float32, one scale per row, its largest magnitude over 240 but at least 1e-10.
o_proj: decoded and rounded to BF16. Compared byte for byte with `attention="published", scale_rule="legacy-448-240"`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file

import weighbridge.api as wb
from weighbridge.testing.tiny import EVEN, write_tiny

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"
FACTOR = 448.0 / 240.0
OPS = "block_sparse_moe.expert_mlps.mlp_op."


def load_folder(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


def real_values(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """float32 [N, K]: every code times the scale of its 128 x 128 block."""
    wide = scale.float().repeat_interleave(128, 0).repeat_interleave(128, 1)
    return codes.float() * wide[: codes.shape[0], : codes.shape[1]]


def per_row(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales [N, 1] with a largest magnitude of 240."""
    scale = values.abs().amax(1, keepdim=True).div(240.0).clamp(min=1e-10)
    return values.div(scale).clamp(-240.0, 240.0).to(torch.float8_e4m3fn), scale


def rescaled(codes: torch.Tensor) -> torch.Tensor:
    return (codes.bfloat16() / FACTOR).to(torch.float8_e4m3fn)


def attention(source: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    out = {}
    for p in "qkv":
        values = real_values(source[f"{old}{p}_proj.weight"], source[f"{old}{p}_proj.weight_scale_inv"])
        out[f"{new}{p}_proj.weight"], out[f"{new}{p}_proj.scale"] = per_row(values)
    values = real_values(source[old + "o_proj.weight"], source[old + "o_proj.weight_scale_inv"])
    out[new + "o_proj.weight"] = values.bfloat16()
    return out


def experts(source: dict[str, torch.Tensor], old: str, new: str, count: int) -> dict[str, torch.Tensor]:
    """Gate and up side by side, [E, H, 2I], and down, [E, I, H], with grids turned along."""
    out = {}
    for stem, members in ((new + OPS + "gate_up_proj", ("w1", "w3")), (new + OPS + "down_proj", ("w2",))):
        codes, scales = [], []
        for e in range(count):
            names = [f"{old}block_sparse_moe.experts.{e}.{m}.weight" for m in members]
            codes.append(torch.cat([rescaled(source[n]).view(torch.uint8).T for n in names], 1))
            scales.append(torch.cat([source[n + "_scale_inv"].float().mul(FACTOR).T for n in names], 1))
        out[stem + ".weight"] = torch.stack(codes).contiguous().view(torch.float8_e4m3fn)
        out[stem + ".scale"] = torch.stack(scales)
    return out


@pytest.fixture(scope="module", params=["demo", "tiny"])
def both(request, tmp_path_factory):
    """What the reference makes and what the tool makes."""
    place = tmp_path_factory.mktemp(request.param)
    folder = DEMO if request.param == "demo" else write_tiny(place / "src", **EVEN)
    wb.open(folder).convert(place / "out", "neuron", attention="published", scale_rule="legacy-448-240")
    source, config = load_folder(folder), json.loads((folder / "config.json").read_text())
    wanted: dict[str, torch.Tensor] = {}
    for layer in range(config["num_hidden_layers"]):
        old, new = f"model.layers.{layer}.", f"layers.{layer}."
        wanted |= attention(source, old + "self_attn.", new + "self_attn.")
        wanted |= experts(source, old, new, config["num_local_experts"])
    return wanted, load_folder(place / "out")


def raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8)


@pytest.mark.parametrize("leaf", ["q_proj.weight", "q_proj.scale", "k_proj.weight", "k_proj.scale", "v_proj.weight", "v_proj.scale",
                                  "o_proj.weight", "gate_up_proj.weight", "gate_up_proj.scale", "down_proj.weight", "down_proj.scale"])
def test_every_byte_is_that_of_the_public_script(both, leaf):
    wanted, made = both
    names = [n for n in wanted if n.endswith(leaf)]
    assert names
    for name in names:
        assert made[name].dtype == wanted[name].dtype and made[name].shape == wanted[name].shape, name
        different = int((raw(made[name]) != raw(wanted[name])).sum())
        assert different == 0, f"{name}: {different} bytes of {raw(wanted[name]).numel()} differ"


def test_nothing_quantized_is_left_out(both):
    wanted, made = both
    rest = set(made) - set(wanted)
    assert not [n for n in rest if made[n].dtype == torch.float8_e4m3fn or n.endswith(".scale")]
    assert set(wanted) <= set(made)


def test_a_row_of_zeros_differs_in_its_scale_only(tmp_path):
    """The script holds a scale at 1e-10 or more; here a row of zeros has the scale 1. All its codes are zero."""
    codes, scale = per_row(torch.zeros(1, 256))
    assert not raw(codes).any() and scale.item() == pytest.approx(1e-10)
    folder = write_tiny(tmp_path / "src", **EVEN)
    name = "model.layers.0.self_attn.q_proj.weight"
    file = next(f for f in folder.glob("*.safetensors") if name in load_file(f))
    tensors = load_file(file)
    tensors[name].view(torch.uint8)[5] = 0
    save_file(tensors, file, {"format": "pt"})
    wb.open(folder).convert(tmp_path / "out", "neuron", attention="published", scale_rule="legacy-448-240")
    made = load_folder(tmp_path / "out")
    assert not raw(made["layers.0.self_attn.q_proj.weight"])[5].any()
    assert made["layers.0.self_attn.q_proj.scale"][5].item() == 1.0

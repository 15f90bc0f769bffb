"""What is due by the inventory, in the makers' form or in one that tools save."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.inspection import tables
from tests.models.variants import VARIANTS, config_of
from weighbridge.check.case import Case
from weighbridge.check.expected import Expected, expected
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.layouts.published import published, stored_forms
from weighbridge.models import inventory

Headers = dict[str, tuple[str, tuple[int, ...]]]


def compare(folder: Path, headers: Headers, config: dict) -> Expected:
    return expected(Case(open_checkpoint(tables.write_headers(folder, headers, config))))


def makers(config: dict) -> Headers:
    return {c.name: ("BF16", c.placement.shape) for c in published(inventory(config))}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_makers_store_is_whole(variant: str, tmp_path: Path) -> None:
    found = compare(tmp_path / "c", makers(config_of(variant)), config_of(variant))
    assert (found.missing, found.surplus, found.shapes, found.foreign_names) == ([], [], [], "")


@pytest.mark.parametrize("variant", ["mixtral", "qwen3_moe", "deepseek_v3", "minimax_m2", "llama", "qwen2", "ernie4_5_moe"])
def test_what_tools_fuse_and_stack_is_whole(variant: str, tmp_path: Path) -> None:
    """Every weight in the last of its forms: stacked experts, joined q, k and v, other names."""
    made = inventory(config_of(variant))
    headers = {several[-1].name: ("BF16", several[-1].placement.shape) for name, several in stored_forms(made).items() if name in made.weights}
    assert headers.keys() != makers(config_of(variant)).keys()
    found = compare(tmp_path / "c", headers, config_of(variant))
    assert (found.missing, found.surplus, found.foreign_names) == ([], [], "")


@pytest.mark.parametrize(("variant", "gone"), [
    ("gpt_oss", "model.layers.1.mlp.experts.down_proj"), ("gpt_oss", "model.layers.1.mlp.experts.gate_up_proj_bias"),
    ("llama4_text", "model.layers.1.feed_forward.experts.gate_up_proj"), ("phi3", "model.layers.2.self_attn.qkv_proj.weight"),
    ("mixtral", "model.layers.0.block_sparse_moe.experts.3.w2.weight"), ("ernie4_5_moe", "model.layers.1.mlp.moe_statics.e_score_correction_bias"),
])
def test_a_tensor_that_is_gone_is_missed(variant: str, gone: str, tmp_path: Path) -> None:
    headers = makers(config_of(variant))
    del headers[gone]
    found = compare(tmp_path / "c", headers, config_of(variant))
    assert (found.missing, found.surplus) == ([gone.removesuffix(".weight")], [])


def test_a_packed_stack_that_is_gone_is_missed(tmp_path: Path) -> None:
    """gpt-oss in MXFP4: codes and scales of one layer's experts."""
    headers = {name: (dtype, shape) for name, dtype, shape in tables.tensors("gpt-oss-20b") if "layers.7.mlp.experts.down_proj_" not in name}
    found = compare(tmp_path / "c", headers, tables.CONFIGS["gpt-oss-20b"])
    assert found.missing == ["model.layers.7.mlp.experts.down_proj", "model.layers.7.mlp.experts.down_proj_bias"] and found.surplus == []

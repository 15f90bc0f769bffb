"""The file stage and the per-rank shards of NxD Inference, against an independent loader in plain numpy."""

from __future__ import annotations

import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.layouts.nxd_reference import Loader, file_stage
from tests.plan.tools import DEMO, assert_same_tensors, convert, load_json, read_folder, read_ranks
from weighbridge.errors import Refused
from weighbridge.models import inventory
from weighbridge.runtimes.neuron import pairs, tp_sizes
from weighbridge.testing.tiny import EVEN, write_tiny

ATTENTION = ("published", "row", "bf16", "exact")
DEGREES = [(2, 1, 2), (2, 2, 1), (4, 1, 4), (4, 2, 2), (8, 1, 8), (8, 2, 4)]
FP8, BF16, F32, I32 = ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16, np.float32, np.int32
O_PROJ = "layers.0.self_attn.o_proj.o_proj."
OPS = "block_sparse_moe.expert_mlps.mlp_op."


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("even") / "src", **EVEN)


@pytest.fixture(scope="module", params=["even", "demo"])
def source(request):
    return request.getfixturevalue("even") if request.param == "even" else DEMO


@pytest.mark.parametrize("attention", ATTENTION)
def test_the_file_stage_is_what_an_independent_conversion_gives(source, attention, tmp_path):
    out = convert(source, tmp_path / "out", "neuron", attention=attention, tp=4)
    wanted = file_stage(read_folder(source), load_json(source / "config.json"), attention, tp=4)
    assert_same_tensors(read_folder(out), wanted)


@pytest.mark.parametrize("tp, moe_tp, moe_ep", DEGREES)
@pytest.mark.parametrize("attention", ["published", "exact"])
def test_shards_are_what_the_loader_would_cut(source, attention, tp, moe_tp, moe_ep, tmp_path):
    degrees = {"tp": tp, "moe_tp": moe_tp, "moe_ep": moe_ep, "attention": attention}
    ranks = read_ranks(convert(source, tmp_path / "shards", "neuron", shards=True, **degrees))
    config = load_json(source / "config.json")
    files = file_stage(read_folder(source), config, attention, tp)
    loader = Loader(files, config, tp, moe_tp, moe_ep)
    assert len(ranks) == tp
    for rank, tensors in enumerate(ranks):
        assert_same_tensors(tensors, loader.shard(rank))


@pytest.mark.parametrize("attention", ["row", "bf16"])
def test_shards_of_the_other_attention_modes(even, attention, tmp_path):
    ranks = read_ranks(convert(even, tmp_path / "shards", "neuron", shards=True, tp=4, attention=attention))
    config = load_json(even / "config.json")
    loader = Loader(file_stage(read_folder(even), config, attention, 4), config, 4, 1, 4)
    for rank, tensors in enumerate(ranks):
        assert_same_tensors(tensors, loader.shard(rank))


def test_shards_cut_from_a_converted_folder_are_those_cut_from_the_source(even, tmp_path):
    """Both ways to the ranks: straight, and over the file stage."""
    options = {"tp": 4, "attention": "exact"}
    files = convert(even, tmp_path / "files", "neuron", **options)
    straight = read_ranks(convert(even, tmp_path / "a", "neuron", shards=True, **options))
    over = read_ranks(convert(files, tmp_path / "b", "neuron", shards=True, **options))
    for left, right in zip(straight, over, strict=True):
        assert_same_tensors(left, right)


def described(tensors, prefix):
    return {n.removeprefix(prefix): (t.dtype, t.shape) for n, t in tensors.items() if n.startswith(prefix)}


def test_names_shapes_and_dtypes_of_the_file_stage(even, tmp_path):
    """Six query heads of 128, two key/value heads, eight experts 256 wide, as facts have them for `published`."""
    tensors = read_folder(convert(even, tmp_path / "out", "neuron", tp=4))
    assert {n for n in tensors if not n.startswith("layers.")} == {"embed_tokens.weight", "norm.weight", "lm_head.weight"}
    assert described(tensors, "layers.1.") == {
        "input_layernorm.weight": (BF16, (256,)), "post_attention_layernorm.weight": (BF16, (256,)),
        "self_attn.q_norm.weight": (BF16, (768,)), "self_attn.k_norm.weight": (BF16, (256,)),
        "self_attn.q_proj.weight": (FP8, (768, 256)), "self_attn.q_proj.scale": (F32, (768, 1)),
        "self_attn.k_proj.weight": (FP8, (256, 256)), "self_attn.k_proj.scale": (F32, (256, 1)),
        "self_attn.v_proj.weight": (FP8, (256, 256)), "self_attn.v_proj.scale": (F32, (256, 1)),
        "self_attn.o_proj.weight": (BF16, (256, 768)),
        "block_sparse_moe.router.linear_router.weight": (F32, (8, 256)),
        "block_sparse_moe.router.e_score_correction_bias": (F32, (8,)),
        OPS + "gate_up_proj.weight": (FP8, (8, 256, 512)), OPS + "gate_up_proj.scale": (F32, (8, 2, 4)),
        OPS + "down_proj.weight": (FP8, (8, 256, 256)), OPS + "down_proj.scale": (F32, (8, 2, 2)),
    }


def test_names_shapes_and_dtypes_of_one_rank(even, tmp_path):
    """TP 4: two of eight padded query heads, one of two repeated key/value heads, two experts; the router is BF16."""
    rank = read_ranks(convert(even, tmp_path / "out", "neuron", shards=True, tp=4))[3]
    assert {n: (t.dtype, t.shape) for n, t in rank.items() if not n.startswith("layers.")} == {
        "rank_util.rank": (I32, (1,)), "embed_tokens.weight": (BF16, (512, 64)),
        "norm.weight": (BF16, (256,)), "lm_head.weight": (BF16, (128, 256))}
    mine = described(rank, "layers.0.")
    assert len(mine) == 20
    assert mine["self_attn.qkv_proj.q_proj.weight"] == (FP8, (256, 256))
    assert mine["self_attn.qkv_proj.k_proj.scale"] == (F32, (128, 1))
    assert mine["self_attn.o_proj.o_proj.weight"] == (BF16, (256, 256))
    assert mine["self_attn.q_norm.weight"] == (BF16, (1024,)) and mine["self_attn.k_norm.weight"] == (BF16, (512,))
    assert mine["block_sparse_moe.router.linear_router.weight"] == (BF16, (8, 256))
    assert mine["block_sparse_moe.router.e_score_correction_bias"] == (BF16, (8,))
    assert mine[OPS + "gate_up_proj.weight"] == (FP8, (2, 256, 512))
    assert mine["block_sparse_moe.expert_mlps.spmd_rank.local_expert_indices"] == (I32, (1, 2))
    assert rank["layers.0.block_sparse_moe.expert_mlps.spmd_rank.local_expert_indices"].tolist() == [[6, 7]]
    assert rank["layers.0.block_sparse_moe.expert_mlps.spmd_rank.rank"].tolist() == [3]


@pytest.mark.parametrize("attention, per_layer", [("published", 20), ("bf16", 17), ("row", 21), ("exact", 21)])
def test_keys_per_layer_and_beside_the_layers(even, attention, per_layer, tmp_path):
    """20 per layer and 4; 21 with o_proj in FP8; three scales fewer when attention is BF16."""
    for rank in read_ranks(convert(even, tmp_path / "out", "neuron", shards=True, tp=4, attention=attention)):
        assert len(rank) == 2 * per_layer + 4


def test_with_one_expert_group_there_are_no_expert_indices(even, tmp_path):
    rank = read_ranks(convert(even, tmp_path / "out", "neuron", shards=True, tp=2, moe_tp=2, moe_ep=1))[0]
    assert not [name for name in rank if name.endswith("local_expert_indices")]


def test_zero_heads_lie_after_each_group(even, tmp_path):
    """Heads 0 to 2 | zero | 3 to 5 | zero on TP 8, one slot on each rank; scales of zero heads are zero."""
    ranks = read_ranks(convert(even, tmp_path / "out", "neuron", shards=True, tp=8, attention="exact"))
    empty = [rank for rank, t in enumerate(ranks) if not t["layers.0.self_attn.qkv_proj.q_proj.weight"].any()]
    assert empty == [3, 7]
    for rank in empty:
        assert not ranks[rank]["layers.0.self_attn.qkv_proj.q_proj.scale"].any()
        assert not ranks[rank]["layers.0.self_attn.o_proj.o_proj.weight"].any()
        assert not ranks[rank]["layers.0.self_attn.o_proj.o_proj.scale"].any()
    keys = [t["layers.0.self_attn.qkv_proj.k_proj.weight"].tobytes() for t in ranks]
    assert len(set(keys)) == 2 and keys[:4] == [keys[0]] * 4 and keys[4:] == [keys[4]] * 4


@pytest.mark.parametrize("attention", ATTENTION)
def test_no_code_is_above_what_neuron_takes(source, attention, tmp_path):
    """Above 240 (0x77) a byte means infinity or NaN there."""
    tensors = read_folder(convert(source, tmp_path / "out", "neuron", attention=attention))
    codes = [t.view(np.uint8) & 0x7F for t in tensors.values() if t.dtype == FP8]
    assert codes and max(int(c.max()) for c in codes) < 0x78
    assert all(n.endswith(".scale") and 0 <= t.min() and t.max() < 1 for n, t in tensors.items() if n.endswith("scale"))


@st.composite
def models(draw):
    """Models whose widths NxD can hold; heads of any width, in groups of any size."""
    kv = draw(st.sampled_from([1, 2, 3]))
    return {"hidden": draw(st.sampled_from([256, 384])), "inter": 128 * draw(st.integers(1, 4)), "heads": kv * draw(st.integers(2, 4)),
            "kv_heads": kv, "head_dim": draw(st.sampled_from([64, 128, 256])), "experts": draw(st.sampled_from([2, 3, 4])),
            "layers": 1, "vocab": 384, "seed": draw(st.integers(0, 9))}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(models(), st.sampled_from(ATTENTION), st.data())
def test_random_models_at_random_degrees(sizes, attention, data):
    """Whatever the rules allow is cut as the loader cuts it."""
    with tempfile.TemporaryDirectory() as name:
        at = Path(name)
        config = load_json(write_tiny(at / "src", **sizes) / "config.json")
        known = inventory(config).sizes
        tp = data.draw(st.sampled_from(tp_sizes(known, 128)), "tp")
        moe_tp, moe_ep = data.draw(st.sampled_from(pairs(known, tp, 128)), "moe")
        try:
            convert(at / "src", at / "out", "neuron", shards=True, attention=attention, tp=tp, moe_tp=moe_tp, moe_ep=moe_ep)
        except Refused as refused:
            assert attention == "exact" and sizes["head_dim"] < 128 and refused.first.code == "block-grid"
            return
        loader = Loader(file_stage(read_folder(at / "src"), config, attention, tp), config, tp, moe_tp, moe_ep)
        for rank, tensors in enumerate(read_ranks(at / "out")):
            assert_same_tensors(tensors, loader.shard(rank))


def test_row_scales_of_o_proj_are_whole_on_ranks_of_zero_heads(even, tmp_path):
    """Such a scale belongs to the sum over all ranks, so no rank may hold another one."""
    ranks = read_ranks(convert(even, tmp_path / "out", "neuron", shards=True, tp=8, attention="row"))
    scales = [t[O_PROJ + "scale"].tobytes() for t in ranks]
    assert any(scales[0]) and set(scales) == {scales[0]}
    files = read_folder(convert(even, tmp_path / "files", "neuron", attention="row", tp=8))
    back = read_folder(convert(tmp_path / "out", tmp_path / "back", "neuron", attention="row", tp=8))
    for leaf in ("weight", "scale"):
        name = f"layers.0.self_attn.o_proj.{leaf}"
        assert back[name].tobytes() == files[name].tobytes()

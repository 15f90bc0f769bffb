"""Degrees that keep whole blocks, groups and heads: against plain arithmetic, and what the rules say of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.failures import rows_em
from tests.failures.tools import build, deepseek, llama, m2, qwen3_moe
from weighbridge.check import cuts
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.run import findings, targets
from weighbridge.check.settings import Settings, Target
from weighbridge.checkpoint.source import open_checkpoint

VLLM = Target("vllm")
M2 = {"layers": 1, "experts": 2, "hidden": 3072, "inter": 1536, "heads": 48, "kv_heads": 8, "vocab": 1024}


def case(folder: Path, runtimes: str = "", **said: object) -> Case:
    return Case(open_checkpoint(folder), targets([runtimes] if runtimes else []), Settings(**said))  # type: ignore[arg-type]


def found(folder: Path, runtimes: str, **said: object) -> list[Finding]:
    return [f for f in findings(case(folder, runtimes, **said), select=["WB5"]) if f.severity != "note"]


@pytest.fixture(scope="module")
def m2_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """One layer of MiniMax-M2 with its true widths and heads, and as many experts in the config."""
    tensors, config = m2(**M2)
    return case(build(tmp_path_factory.mktemp("m2") / "m", tensors, config | {"num_local_experts": 256, "num_experts_per_tok": 8}))


def test_sizes_of_m2_are_those_of_plain_arithmetic(m2_case: Case) -> None:
    width, block, heads, kv, dim = 1536, 128, 48, 8, 128
    whole = [n for n in range(1, 65) if width % n == 0 and width // n % block == 0]
    assert whole == [1, 2, 3, 4, 6, 12]
    assert cuts.expert_tp_sizes(m2_case) == whole
    dealt = [n for n in range(1, 65) if heads % n == 0 and (kv % n == 0 or n % kv == 0) and heads * dim // n % block == 0]
    assert dealt == [1, 2, 4, 8, 16, 24, 48]
    assert cuts.tp_sizes(m2_case, VLLM, expert_parallel=True) == dealt
    assert cuts.tp_sizes(m2_case, VLLM) == [n for n in dealt if n in whole]


@pytest.mark.parametrize("tp", range(1, 65))
def test_every_tp_is_judged_as_the_printed_sizes_say(m2_case: Case, tp: int) -> None:
    for dealt in (False, True):
        asked = Case(m2_case.checkpoint, (VLLM,), Settings(tp=tp, expert_parallel=dealt))
        errors = [f for f in findings(asked, select=["WB5"]) if f.severity == "error"]
        assert bool(errors) == (tp not in cuts.tp_sizes(m2_case, VLLM, expert_parallel=dealt)), (tp, dealt, errors)


def test_tp_8_without_ep_is_refused_with_the_readers_text(m2_case: Case) -> None:
    asked = Case(m2_case.checkpoint, (VLLM,), Settings(tp=8))
    (finding,) = [f for f in findings(asked, select=["WB5"]) if f.severity == "error"]
    assert finding.code == "WB502"
    assert finding.consequence == "ValueError: The output_size of gate's and up's weight = 192 is not divisible by weight quantization block_n = 128."
    assert "The input_size of down's weight = 192 is not divisible by weight quantization block_k = 128." in finding.evidence
    assert finding.fix.text.startswith("expert TP 1, 2, 3, 4, 6, 12; or EP 8")
    assert finding.fix.value == {"expert_tp": [1, 2, 3, 4, 6, 12], "ep": [8], "tp": [1, 2, 4], "tp_with_ep": [1, 2, 4, 8, 16, 24, 48]}
    assert finding.read_in == "vLLM main"


@pytest.mark.parametrize(("reader", "said", "degrees"), [
    ("vllm", {"tp": 4, "dp": 2}, (4, 8, 1)), ("vllm", {"tp": 4, "dp": 2, "expert_parallel": True}, (4, 1, 8)), ("vllm", {}, (1, 1, 1)),
    ("sglang", {"tp": 8, "ep": 2}, (8, 4, 2)), ("sglang", {"tp": 8, "expert_parallel": True}, (8, 1, 8)),
    ("tensorrt-llm", {"tp": 8, "moe_ep": 4}, (8, 2, 4)), ("tensorrt-llm", {"tp": 8, "moe_tp": 8, "moe_ep": 1}, (8, 8, 1)),
                                                         ("transformers", {"tp": 8}, (1, 1, 1)),
])
def test_degrees_of_each_reader(reader: str, said: dict, degrees: tuple[int, int, int]) -> None:
    d = cuts.degrees(Settings(**said), Target(reader))
    assert (d.tp, d.moe_tp, d.moe_ep) == degrees


def test_sglang_deals_attention_out_by_dp() -> None:
    assert cuts.degrees(Settings(tp=16, dp=4), Target("sglang")).attention == 4


def test_key_heads_fewer_than_ranks_are_repeated(tmp_path: Path) -> None:
    folder = build(tmp_path / "q", *qwen3_moe(experts=8, inter=1024, heads=8, kv_heads=2))
    assert not found(folder, "vllm,sglang,tensorrt-llm", tp=8)
    assert [f.code for f in found(folder, "vllm", tp=16)] == ["WB501", "WB502", "WB503"]


@pytest.mark.parametrize(("tp", "text"), [(3, "Total number of attention heads (8) must be divisible by tensor parallel size (3)."),
                                          (4, "without a text")])
def test_heads(tmp_path: Path, tp: int, text: str) -> None:
    folder = build(tmp_path / "h", *llama(heads=8, kv_heads=8 if tp == 3 else 6, hidden=1024, inter=3072))
    (finding,) = [f for f in found(folder, "vllm", tp=tp) if f.code == "WB501"]
    assert text in finding.consequence


def test_latent_attention_has_no_key_heads_and_ragged_halves_are_held_whole(tmp_path: Path) -> None:
    folder = build(tmp_path / "d", *deepseek(heads=8, inter=1024, moe_inter=1024, num_key_value_heads=5))
    assert not found(folder, "vllm,sglang,tensorrt-llm", tp=4)


@pytest.mark.parametrize(("reader", "said", "text"), [
    ("tensorrt-llm", {"tp": 8, "moe_ep": 3}, "expert degrees 2 x 3 do not make TP 8"),
                                                      ("sglang", {"tp": 8, "ep": 3}, "expert degrees 2 x 3 do not make TP 8"),
    ("sglang", {"tp": 16, "ep": 16}, "8 experts are not divisible by EP 16"),
                                                      ("tensorrt-llm", {"tp": 8, "moe_tp": 2, "moe_ep": 2}, "expert degrees 2 x 2"),
])
def test_experts_that_cannot_be_dealt_out(tmp_path: Path, reader: str, said: dict, text: str) -> None:
    folder = build(tmp_path / "e", *qwen3_moe(experts=8, inter=2048, heads=16, kv_heads=4))
    assert any(f.code == "WB505" and text in f.title for f in found(folder, reader, **said))
    assert not [f for f in found(folder, reader, tp=8, ep=8, moe_ep=8) if f.code == "WB505"]


def test_expert_parallelism_without_experts(tmp_path: Path) -> None:
    (finding,) = found(build(tmp_path / "l", *llama()), "vllm", tp=2, expert_parallel=True)
    assert "Number of experts in the model must be greater than 0" in finding.consequence


def test_mxfp4_groups_are_dealt_out_with_a_note(tmp_path: Path) -> None:
    tensors, config = llama(quantize=False, num_local_experts=4, num_experts_per_tok=2, model_type="gpt_oss_like")
    for layer in range(2):
        at = f"model.layers.{layer}.mlp.experts."
        tensors |= {at + "gate_up_proj_blocks": ("U8", (4, 5760, 16, 16)), at + "gate_up_proj_scales": ("U8", (4, 5760, 16)),
                    at + "down_proj_blocks": ("U8", (4, 512, 90, 16)), at + "down_proj_scales": ("U8", (4, 512, 90))}
    said = findings(case(build(tmp_path / "g", tensors, config), "vllm", tp=4), select=["WB504"])
    assert [(f.severity, "90 groups of 32" in f.title) for f in said] == [("note", True)]


def test_a_narrow_awq_word(tmp_path: Path) -> None:
    folder = rows_em.awq(tmp_path / "a", 1024)
    assert not found(folder, "vllm", tp=2)


def test_unknown_sizes_are_not_judged(tmp_path: Path) -> None:
    tensors, config = llama(heads=8, kv_heads=2, hidden=1024)
    for key in ("num_attention_heads", "num_key_value_heads", "head_dim"):
        del config[key]
    assert not found(build(tmp_path / "u", tensors, config), "vllm", tp=8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 40), st.sampled_from([32, 64, 128]), st.sampled_from(["vllm", "sglang"]))
def test_random_widths_are_judged_as_arithmetic_says(tmp_path_factory: pytest.TempPathFactory, tp: int, blocks: int, block: int, reader: str) -> None:
    width = blocks * block
    tensors, config = llama(inter=width, hidden=12 * 128, heads=12, kv_heads=12)
    claim = config["quantization_config"] | {"weight_block_size": [block, block]}
    for name, (_, shape) in list(tensors.items()):
        if name.endswith("_scale_inv"):
            weight = tensors[name.replace("_scale_inv", "")][1]
            tensors[name] = ("F32", (-(-weight[0] // block), -(-weight[1] // block)))
    folder = build(tmp_path_factory.mktemp("w") / "m", tensors, config | {"quantization_config": claim})
    right = 12 % tp == 0 and width % tp == 0 and width // tp % block == 0
    assert (not found(folder, reader, tp=tp)) == (right or tp == 1)


def compressed(experts: int, inter: int, weights: dict, quantized: dict) -> tuple[dict, dict]:
    """Qwen3-MoE with its experts in a form of compressed-tensors."""
    tensors, config = qwen3_moe(experts=experts, inter=inter, heads=8, kv_heads=4, quantize=False)
    for name in [n for n in tensors if ".experts." in n]:
        path, shape = name.removesuffix(".weight"), tensors.pop(name)[1]
        tensors |= {path + suffix: (dtype, tuple(make(shape))) for suffix, (dtype, make) in quantized.items()}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    config["quantization_config"] = {"quant_method": "compressed-tensors", "config_groups": groups,
                                     "ignore": ["lm_head", "re:.*self_attn.*", "re:.*mlp.gate$"]}
    return tensors, config


def test_blocks_of_compressed_tensors_are_cut_alike(tmp_path: Path) -> None:
    weights = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}
    made = compressed(8, 1536, weights, {".weight": ("F8_E4M3", lambda s: s), ".weight_scale": ("BF16", lambda s: (s[0] // 128, s[1] // 128))})
    folder = build(tmp_path / "c", *made)
    assert [f.code for f in found(folder, "vllm", tp=8)] == ["WB502"]
    assert not found(folder, "vllm", tp=8, expert_parallel=True)
    assert not found(folder, "vllm", tp=4)


@pytest.mark.parametrize(("tp", "right"), [(2, True), (4, True), (8, False)])
def test_groups_of_packed_experts(tmp_path: Path, tp: int, right: bool) -> None:
    """768 inputs of the down projection in groups of 64: TP 8 would leave 96."""
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 64}
    made = compressed(8, 768, weights, {".weight_packed": ("I32", lambda s: (s[0], s[1] // 8)),
                                        ".weight_scale": ("BF16", lambda s: (s[0], s[1] // 64)),
                                        ".weight_shape": ("I64", lambda s: (2,))})
    hits = found(build(tmp_path / "p", *made), "vllm", tp=tp)
    assert [f.code for f in hits] == ([] if right else ["WB504"])
    assert all("768/8 = 96, and the group is 64" in f.title and "EP 8" in f.fix.text for f in hits)


def test_channel_scales_are_not_cut(tmp_path: Path) -> None:
    weights = {"num_bits": 8, "type": "float", "strategy": "channel"}
    made = compressed(8, 1536, weights, {".weight": ("F8_E4M3", lambda s: s), ".weight_scale": ("BF16", lambda s: (s[0], 1))})
    assert not found(build(tmp_path / "c", *made), "vllm,sglang,tensorrt-llm", tp=8)


def test_towers_and_unquantized_stacks_are_not_judged(tmp_path: Path) -> None:
    tensors, config = llama(heads=8, kv_heads=8, hidden=1024, quantize=False)
    tensors |= {"model.visual.blocks.0.mlp.gate_proj.weight": ("BF16", (4305, 512)),
                "model.layers.0.mlp.experts.gate_up_proj": ("BF16", (8, 333, 512))}
    assert not found(build(tmp_path / "v", tensors, config), "vllm", tp=8)

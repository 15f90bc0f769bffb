"""Bytes of one rank: the sums, what is repeated, and the degrees that fit."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest

from tests.failures.rows_nxd import neuron_m2
from tests.failures.tools import build, deepseek, llama, m2, qwen3_moe
from weighbridge.check import budget, cuts
from weighbridge.check.case import Case
from weighbridge.check.run import findings, targets
from weighbridge.check.settings import Settings, Target
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.testing import safetensors_writer

VLLM = Target("vllm")


def case(folder: Path, runtimes: str = "", **said: object) -> Case:
    return Case(open_checkpoint(folder), targets([runtimes] if runtimes else []), Settings(**said))  # type: ignore[arg-type]


def stored(tensors: dict) -> int:
    return sum(safetensors_writer.DTYPE_BYTES[dtype] * prod(shape) for dtype, shape in tensors.values())


@pytest.mark.parametrize("make", [m2, llama, deepseek, qwen3_moe])
def test_one_rank_holds_every_byte(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    tensors, config = make()
    rank = budget.of_rank(case(build(tmp_path / "m", tensors, config)), Settings(context=1), VLLM)
    assert rank.weights == stored(tensors)


def test_parts_are_cut_and_key_heads_repeated(tmp_path: Path) -> None:
    tensors, config = m2(heads=8, kv_heads=2, experts=8)
    asked = case(build(tmp_path / "m", tensors, config))
    d = cuts.Degrees(8, 8, 8, 2, 4)
    rank = budget.of_rank(asked, Settings(tp=8), VLLM, d)

    def size(*words: str) -> int:
        return stored({name: value for name, value in tensors.items() if any(word in name for word in words)})

    assert rank.experts == size(".experts.") // 8
    assert rank.attention == size("q_proj", "o_proj") // 8 + size("k_proj", "v_proj") // 2
    whole = stored(tensors) - size(".experts.", "_proj") - size("embed_tokens", "lm_head")
    assert rank.rest == size("embed_tokens", "lm_head") // 8 + whole


@pytest.mark.parametrize(("said", "each"), [({}, 2), ({"kv_cache_dtype": "fp8"}, 1), ({"kv_cache_dtype": "auto"}, 2)])
def test_cache_of_grouped_heads(tmp_path: Path, said: dict, each: int) -> None:
    asked = case(build(tmp_path / "m", *llama(layers=2, heads=4, kv_heads=2)))
    settings = Settings(context=1000, batch=3, **said)
    assert budget.cache_bytes(asked, settings, cuts.Degrees(1)) == 2 * 2 * 2 * 128 * 3000 * each
    assert budget.cache_bytes(asked, settings, cuts.Degrees(4, 4)) == 2 * 2 * 1 * 128 * 3000 * each  # one head on each rank, repeated


def test_cache_of_latent_attention_is_held_whole(tmp_path: Path) -> None:
    asked = case(build(tmp_path / "d", *deepseek(layers=3)))
    for tp in (1, 4):
        assert budget.cache_bytes(asked, Settings(context=100), cuts.Degrees(tp, tp)) == 3 * (512 + 64) * 100 * 2


@pytest.mark.parametrize("spelling", [{"layer_types": ["full_attention", "sliding_attention"]}, {"hybrid_layer_pattern": [0, 1]}])
def test_windows_and_linear_attention(tmp_path: Path, spelling: dict) -> None:
    asked = case(build(tmp_path / "w", *llama(layers=2, heads=4, kv_heads=4, sliding_window=10, **spelling)))
    assert budget.cache_bytes(asked, Settings(context=100), cuts.Degrees()) == 2 * 4 * 128 * (100 + 10) * 2
    linear = case(build(tmp_path / "l", *llama(layers=2, heads=4, kv_heads=4, attn_type_list=[0, 1])))
    assert budget.cache_bytes(linear, Settings(context=100), cuts.Degrees()) == 2 * 4 * 128 * 100 * 2


def test_what_fits_does_fit_and_the_rest_does_not(tmp_path: Path) -> None:
    asked = case(build(tmp_path / "m", *m2(experts=8, inter=512)))
    settings = Settings(context=4096, batch=2)
    sizes = {pair: budget.of_rank(asked, settings, Target("sglang"), cuts.Degrees(pair[0], pair[0], pair[0], pair[0] // pair[1], pair[1])).total
             for pair in ((1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (8, 2), (8, 4), (8, 8))}
    for limit in (sizes[8, 8], sizes[4, 4], sizes[2, 2], sizes[1, 1]):
        fit = budget.fitting(asked, settings, Target("sglang"), limit)
        assert {pair for pair in sizes if sizes[pair] <= limit} == set(fit)


def test_the_finding_has_the_numbers_and_all_degrees(tmp_path: Path) -> None:
    folder = build(tmp_path / "m", *m2(experts=8, inter=512))
    total = stored(m2(experts=8, inter=512)[0])
    (finding,) = findings(case(folder, "vllm", tp=1, context=64, device_memory=total // 2), select=["WB801"])
    assert finding.severity == "error"
    assert f"{total / 1e9:.2f} GB" in finding.evidence
    assert [4, 4] in finding.fix.value
    assert [1, 1] not in finding.fix.value
    assert not findings(case(folder, "vllm", tp=1, context=64, device_memory=2 * total), select=["WB801"])
    (close,) = findings(case(folder, "vllm", tp=1, context=64, device_memory=int(total * 1.05)), select=["WB801"])
    assert close.severity == "warning"


def test_a_paged_cache_lets_sequences_wait_and_another_ends(tmp_path: Path) -> None:
    folder = build(tmp_path / "l", *llama())
    memory = stored(llama()[0]) + 2 * 2 * 2 * 2 * 128 * 4096 * 2  # weights, and two sequences
    said = {"context": 4096, "batch": 512, "device_memory": memory, "sources": {"batch": "--max-num-seqs"}}
    assert [f.severity for f in findings(case(folder, "vllm", **said), select=["WB801"])] == ["warning"]
    assert [f.severity for f in findings(case(folder, "neuron", **said), select=["WB801"])] == ["error"]
    said["sources"] = {"batch": "--batch"}
    assert [f.severity for f in findings(case(folder, "vllm", **said), select=["WB801"])] == ["error"]


def test_without_a_reader_and_for_the_converter(tmp_path: Path) -> None:
    folder = build(tmp_path / "l", *llama())
    assert [f.runtime for f in findings(case(folder, tp=1, device_memory=1000), select=["WB801"])] == [None]
    assert not findings(case(folder, "llama.cpp", tp=1, device_memory=1000), select=["WB801"])
    assert not findings(case(folder, "vllm", tp=1), select=["WB801"])


def test_neuron_takes_degrees_and_context_from_its_own_file(tmp_path: Path) -> None:
    own = {"tp_degree": 4, "moe_tp_degree": 1, "moe_ep_degree": 4, "tkg_batch_size": 8, "seq_len": 1024}
    folder = neuron_m2(tmp_path / "n", settings=own)
    (finding,) = findings(case(folder, "neuron", device_memory=1_000_000), select=["WB801"])
    assert "TP 4, expert TP 1, EP 4" in finding.title
    assert "8 x 1,024 tokens" in finding.evidence


def test_a_family_whose_every_layer_slides(tmp_path: Path) -> None:
    """Mistral's window stands alone in its config; Llama's file reads none."""
    for model_type, kept in (("mistral", 10), ("llama", 0)):
        asked = case(build(tmp_path / model_type, *llama(layers=2, heads=4, kv_heads=4, sliding_window=10, model_type=model_type)))
        assert list(budget.windows(asked)) == [kept, kept]

"""The table of ranks: its arithmetic is the budget's, its findings are check's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.failures.rows_nxd import neuron_m2
from tests.failures.tools import build, deepseek, llama, m2, qwen3_moe
from tests.inspection.tables import TABLES, write
from weighbridge.check import budget, run
from weighbridge.check.case import Case
from weighbridge.check.nxd_settings import effective
from weighbridge.check.settings import Settings, Target
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.overview.memory import CUT, RUNTIMES, STOPS, memory

FLAGS = {"vllm": lambda tp, ep: {"tp": tp, "expert_parallel": ep > 1}, "sglang": lambda tp, ep: {"tp": tp, "ep": ep if ep > 1 else 0},
         "neuron": lambda tp, ep: {"tp": tp, "moe_tp": tp // ep, "moe_ep": ep}, "transformers": lambda tp, ep: {"tp": tp},
         "tensorrt-llm": lambda tp, ep: {"tp": tp, "moe_tp": tp // ep, "moe_ep": ep} if ep > 1 else {"tp": tp}}


def case_of(folder: Path, runtimes: str = "", **said: Any) -> Case:
    return Case(open_checkpoint(folder), run.targets([runtimes] if runtimes else []), Settings(**said))


def cache(row: list[Any], context: int, batch: int, pipeline: int = 1) -> int:
    """As the page computes it."""
    _, _, _, _, _, full, windowed, window, _ = row
    tokens = context * batch
    return (full * tokens + windowed * min(tokens, window * batch)) // pipeline


@pytest.mark.parametrize("model", sorted(TABLES))
def test_bytes_of_real_tables_are_the_budget(tmp_path: Path, model: str) -> None:
    case = case_of(write(model, tmp_path / "m", experts=4))
    document = memory(case)
    assert document["runtimes"] == list(RUNTIMES)
    for name in RUNTIMES:
        for row in document["table"][name]["rows"]:
            tp, ep = row[:2]
            target, asked = Target(name), Settings(**(FLAGS[name](tp, ep) if case.sizes.experts or name != "neuron" else {"tp": tp}))
            probe = Case(case.checkpoint, (target,), asked)
            rank = budget.of_rank(probe, effective(probe, target), target)
            assert tuple(row[2:5]) == (rank.attention, rank.experts, rank.rest), (name, tp, ep)
            d = budget.of_settings(effective(probe, target), target)
            for context, batch in ((1, 1), (127, 3), (128, 1), (4096, 8), (131072, 1), (200_000, 64), (1 << 24, 2)):
                assert cache(row, context, batch) == budget.cache_bytes(case, Settings(context=context, batch=batch), d), (name, tp, ep, context, batch)


@pytest.mark.parametrize("window", [1, 100, 1 << 20])
def test_windows_pipelines_and_small_values(tmp_path: Path, window: int) -> None:
    tensors, config = llama(layers=5)
    config |= {"sliding_window": window, "layer_types": ["sliding_attention", "full_attention", "linear_attention", "sliding_attention", "sliding_attention"]}
    case = case_of(build(tmp_path / "m", tensors, config), "vllm", pp=3, kv_cache_dtype="fp8")
    document = memory(case)
    assert document["pipeline"] == 3
    for row in document["table"]["vllm"]["rows"]:
        settings = Settings(tp=row[0], pp=3, kv_cache_dtype="fp8", context=3333, batch=7)
        assert row[6] and row[7] == window
        assert cache(row, 3333, 7, 3) == budget.cache_bytes(case, settings, budget.of_settings(settings, Target("vllm")))


def test_the_block_finding_of_m2_at_tp_8(tmp_path: Path) -> None:
    tensors, config = m2(experts=8, inter=1536, heads=48, kv_heads=8)
    document = memory(case_of(build(tmp_path / "m", tensors, config), "vllm"))
    rows = {tuple(row[:2]): [document["messages"][n] for n in row[-1]] for row in document["table"]["vllm"]["rows"]}
    assert rows[8, 1][0]["code"] == "WB502" and "1536/8 = 192" in rows[8, 1][0]["title"]
    assert "WB502" not in {m["code"] for m in rows[8, 8]}
    assert set(document["table"]) == {"vllm"}


@pytest.mark.parametrize("make", [m2, llama, deepseek, qwen3_moe, neuron_m2])
def test_findings_are_those_of_check(tmp_path: Path, make: Any) -> None:
    """Same rule, same words, at every stop of every reader."""
    case = case_of(make(tmp_path / "m") if make is neuron_m2 else build(tmp_path / "m", *make()))
    document = memory(case)
    experts = bool(case.sizes.experts)
    for name in RUNTIMES:
        for row in document["table"][name]["rows"][:: 3]:
            tp, ep = row[:2]
            said = FLAGS[name](tp, ep) if experts else {"tp": tp}
            checked = Case(case.checkpoint, (Target(name),), Settings(**said, sources={key: f"--{key.replace('_', '-')}" for key in said}))
            found = [run.finding_document(f) for f in run.findings(checked, select=CUT) if f.runtime == name]
            assert [document["messages"][n] for n in row[-1]] == found, (name, tp, ep)
    if make is neuron_m2:
        assert {m["code"] for m in document["messages"]} >= {"WB709", "WB720"}


def test_stops_and_degrees(tmp_path: Path) -> None:
    experts = memory(case_of(build(tmp_path / "m", *m2()), "vllm,sglang", tp=5))
    assert experts["tp"] == sorted({*STOPS, 5})
    assert [row[1] for row in experts["table"]["sglang"]["rows"] if row[0] == 12] == [1, 2, 3, 4, 6, 12]
    assert [row[1] for row in experts["table"]["vllm"]["rows"] if row[0] == 12] == [1, 12]
    dense = memory(case_of(build(tmp_path / "d", *llama())))
    assert dense["experts"] == 0 and all(row[1] == 1 for held in dense["table"].values() for row in held["rows"])


def test_without_settings_the_case_is_as_it_was(tmp_path: Path) -> None:
    case = case_of(build(tmp_path / "m", *m2()), "vllm", tp=8, context=1000, batch=4)
    before = case.settings
    document = memory(case)
    assert case.settings is before and (document["context"], document["batch"]) == (1000, 4)

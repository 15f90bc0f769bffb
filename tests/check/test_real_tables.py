"""Nine published checkpoints, with every tensor and their own config, against the readers that are known to run them: no error.

Parallel sizes are those that the publishers document. The headers are whole; scale bytes are holes there and not read. A second
pass with few experts has plausible scale values and reads them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.failures.tools import SCALE_ENDINGS, plausible
from tests.inspection.tables import CONFIGS, tensors, write_headers
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.run import findings, targets
from weighbridge.check.settings import Settings
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.testing import safetensors_writer

RUNS: dict[str, list[tuple[str, dict]]] = {
    "deepseek-r1": [("vllm,sglang", {"tp": 8}), ("sglang", {"tp": 16}), ("tensorrt-llm", {"tp": 8, "ep": 8, "moe_ep": 8, "moe_tp": 1}), ("transformers", {})],
    "deepseek-v3.2": [("vllm,sglang", {"tp": 8}), ("vllm", {"tp": 1, "dp": 8, "expert_parallel": True})],
    "glm-4.5-fp8": [("vllm,sglang", {"tp": 8})],
    "gpt-oss-20b": [("vllm,sglang,transformers", {"tp": 1}), ("vllm", {"tp": 2})],
    "kimi-k2.5": [("vllm,sglang", {"tp": 8})],
    "mimo-v2.5": [("sglang", {"tp": 4})],
    "minimax-m2": [("vllm,sglang", {"tp": 4}), ("vllm", {"tp": 8, "expert_parallel": True}), ("sglang", {"tp": 8, "ep": 8}), ("transformers,llama.cpp", {})],
    "qwen3-235b-a22b-fp8": [("vllm,sglang", {"tp": 4}), ("vllm", {"tp": 8, "expert_parallel": True}), ("sglang", {"tp": 8, "ep": 8}), ("transformers", {})],
    "qwen3-32b-awq": [("vllm,sglang", {"tp": 2}), ("vllm,sglang,transformers", {"tp": 1})],
}
EXPERT_KEYS = ("num_local_experts", "n_routed_experts", "num_experts")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    """Each table is written and read once."""
    return {}


def whole(model: str, opened: dict[str, Checkpoint], factory: pytest.TempPathFactory) -> Checkpoint:
    if model not in opened:
        table = {name: (dtype, shape) for name, dtype, shape in tensors(model)}
        opened[model] = open_checkpoint(write_headers(factory.mktemp(model), table, CONFIGS[model]))
    return opened[model]


def told(found: list[Finding], *severities: str) -> list[tuple[str, str | None, str, str]]:
    return [(f.code, f.runtime, f.title, f"{f.where} {f.evidence}") for f in found if f.severity in severities]


@pytest.mark.parametrize("model", RUNS)
def test_the_whole_table_alone(model: str, opened: dict[str, Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> None:
    found = findings(Case(whole(model, opened, tmp_path_factory), scale_bytes="none"))
    assert not told(found, "error")
    assert len(told(found, "warning")) <= 1, told(found, "warning")


@pytest.mark.parametrize("model, runtimes, settings", [(m, r, s) for m, runs in RUNS.items() for r, s in runs],
                         ids=[f"{m}-{r}-{'-'.join(map(str, s.values()))}" for m, runs in RUNS.items() for r, s in runs])
def test_the_whole_table_against_its_readers(model: str, runtimes: str, settings: dict, opened: dict[str, Checkpoint],
                                             tmp_path_factory: pytest.TempPathFactory) -> None:
    found = findings(Case(whole(model, opened, tmp_path_factory), targets([runtimes]), Settings(**settings), "none"))
    assert not told(found, "error")
    assert len(told(found, "warning")) <= 2, told(found, "warning")


@pytest.mark.parametrize("model", RUNS)
def test_with_scale_values(model: str, tmp_path: Path) -> None:
    """Four experts in each layer, and a value in every scale."""
    table = {name: (dtype, shape) for name, dtype, shape in tensors(model, experts=4)}
    config = json.loads(json.dumps(CONFIGS[model]))
    for settings in (config, config.get("text_config", {})):
        for key in EXPERT_KEYS:
            if key in settings and model != "gpt-oss-20b":
                settings[key] = 4
    folder = write_headers(tmp_path / model, table, config)
    _, positions, _ = safetensors_writer.place(table)
    with open(folder / "model.safetensors", "r+b") as file:
        for name, position in positions.items():
            dtype, shape = table[name]
            if name.endswith(SCALE_ENDINGS):
                os.pwrite(file.fileno(), plausible(name, dtype, shape), position)
            elif name.endswith(("qzeros",)):
                os.pwrite(file.fileno(), b"\x88" * (4 * shape[0] * shape[1]), position)
    for runtimes, settings in RUNS[model]:
        found = findings(Case(open_checkpoint(folder), targets([runtimes]), Settings(**settings)))
        assert not [f for f in told(found, "error") if f[0].startswith(("WB4", "WB6"))]

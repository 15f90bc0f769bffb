"""The real readers over skeletons: what each says of a clean checkpoint, of faults, and of full-size replicas. `make test-readers`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.failures.tools import Config, Tensors, build, llama, qwen3_moe
from tests.inspection import tables
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.readers.trial.answer import Tried
from weighbridge.readers.trial.trial import tried
from weighbridge.testing.replica import write_replica

ROOT = Path(os.environ.get("WEIGHBRIDGE_READERS", ".venv-readers"))
PLACES = {"vllm": "vllm", "transformers": "vllm", "sglang": "sglang", "mlx": "mlx", "llama.cpp": "llama.cpp"}
Change = Callable[[Tensors], Tensors]


def ask(reader: str, folder: Path, **run: Any) -> Tried:
    python = ROOT / PLACES[reader] / "bin" / "python"
    if not python.exists():
        pytest.skip(f"there is no {python}")
    (answer,) = tried(open_checkpoint(folder, lenient=True), [f"{reader}@{python}"], run)
    return answer


def without(ending: str) -> Change:
    return lambda tensors: {name: spec for name, spec in tensors.items() if name != next(n for n in tensors if n.endswith(ending))}


def half(ending: str) -> Change:
    def change(tensors: Tensors) -> Tensors:
        name = next(n for n in tensors if n.endswith(ending))
        dtype, (rows, columns) = tensors[name]
        return {**tensors, name: (dtype, (rows // 2, columns))}
    return change


def more(name: str) -> Change:
    return lambda tensors: {**tensors, name: ("F32", (8,))}


EXPERT, SCALE, SURPLUS = "experts.1.up_proj.weight", "o_proj.weight_scale_inv", "model.layers.0.self_attn.rotary_emb.strange"
FAULTS: list[tuple[str, Change, dict[str, str]]] = [
    ("clean", dict, {"vllm": "loaded", "sglang": "loaded", "transformers": "loaded"}),
    ("expert", without(EXPERT), {"vllm": "unfilled", "sglang": "unfilled"}),
    ("scale", without(SCALE), {"vllm": "unfilled", "sglang": "unfilled"}),
    ("surplus", more(SURPLUS), {"vllm": "refused", "sglang": "loaded", "transformers": "loaded"}),
    # transformers 5.19 takes the matrix with half of its rows in silence, from real files too: its decoder divides what is there by the grid.
    ("shape", half("o_proj.weight"), {"vllm": "refused", "sglang": "refused", "transformers": "loaded"}),
    ("norm", without("model.norm.weight"), {"vllm": "unfilled", "transformers": "unfilled"}),
]


@pytest.mark.parametrize(("change", "reader", "outcome"), [
    pytest.param(change, reader, outcome, id=f"{name}-{reader}") for name, change, expected in FAULTS for reader, outcome in expected.items()])
def test_faults(change: Change, reader: str, outcome: str, tmp_path: Path) -> None:
    tensors, config = qwen3_moe()
    answer = ask(reader, build(tmp_path / "m", change(tensors), config))
    assert answer.outcome == outcome, answer
    if change.__name__ == "<lambda>" and outcome == "unfilled":
        assert answer.unfilled
    if SURPLUS in change(tensors) and outcome == "loaded":
        assert SURPLUS in answer.ignored


@pytest.mark.parametrize(("reader", "run", "outcome", "said"), [
    ("vllm", {"tp": 8}, "loaded", ""), ("vllm", {"tp": 8, "expert_parallel": True}, "loaded", ""),
    ("sglang", {"tp": 8}, "refused", "192 is not divisible by weight quantization block_n = 128"), ("sglang", {}, "loaded", ""),
    ("transformers", {}, "loaded", ""), ("llama.cpp", {}, "loaded", ""),
])
def test_full_size_m2(reader: str, run: dict[str, Any], outcome: str, said: str, tmp_path: Path) -> None:
    answer = ask(reader, write_replica(tmp_path / "m", scales="zero"), **run)
    assert (answer.outcome, answer.ignored) == (outcome, ()), answer
    assert said in answer.error
    assert answer.layers == (2, 62)


@pytest.mark.parametrize(("reader", "model", "run", "outcome", "said"), [
    ("vllm", "deepseek-r1", {"tp": 8}, "loaded", ""), ("vllm", "qwen3-235b-a22b-fp8", {"tp": 4}, "loaded", ""),
    ("transformers", "deepseek-r1", {}, "refused", "(576, 7168) not divisible by scale grid (5, 56)"),
    ("transformers", "qwen3-235b-a22b-fp8", {}, "loaded", ""), ("transformers", "qwen3-32b-awq", {}, "unavailable", "gptqmodel"),
    ("mlx", "qwen3-32b-awq", {}, "loaded", ""), ("mlx", "qwen3-235b-a22b-fp8", {}, "refused", "parameters not in model"),
    ("llama.cpp", "qwen3-235b-a22b-fp8", {}, "loaded", ""),
])
def test_full_size_tables(reader: str, model: str, run: dict[str, Any], outcome: str, said: str, tmp_path: Path) -> None:
    answer = ask(reader, tables.write(model, tmp_path / "m"), **run)
    assert answer.outcome == outcome, answer
    assert said in answer.error


def test_sglang_drops_block_scales_of_llama(tmp_path: Path) -> None:
    """sglang#30234: the class renames weight_scale_inv, the layer keeps it."""
    made: tuple[Tensors, Config] = llama()
    answer = ask("sglang", build(tmp_path / "m", *made))
    assert answer.outcome == "unfilled", answer
    assert any(name.endswith("weight_scale_inv") for name in answer.unfilled)

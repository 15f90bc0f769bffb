"""What a token costs, against arithmetic of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drawing.walk import drawn
from tests.failures.tools import build, llama, m2
from tests.inspection import tables
from tests.models.variants import config_of
from weighbridge.layouts.published import published
from weighbridge.models import inventory
from weighbridge.testing.replica import write_replica


def test_m2_meets_ten_billion_of_its_parameters(tmp_path: Path) -> None:
    root = drawn(write_replica(tmp_path / "r", scales="zero"))
    attention = 62 * (2 * 6144 * 3072 + 2 * 1024 * 3072)
    norms = 62 * (2 * 3072 + 6144 + 1024) + 3072
    expected = {"embedding": 3072, "attention": attention, "router": 62 * (256 * 3072 + 256), "experts": 62 * 8 * 3 * 1536 * 3072,
                "norms and the rest": norms, "head": 200064 * 3072}
    assert {part["name"]: part["active"] for part in root["active"]["parts"]} == expected
    assert root["active"]["parameters"] == sum(expected.values()) == 10_415_959_552
    assert sum(part["parameters"] for part in root["active"]["parts"]) == root["parameters"]
    assert sum(part["bytes"] for part in root["active"]["parts"]) == root["bytes"]
    assert root["active"]["share"] == pytest.approx(10_415_959_552 / 228_689_764_864)
    experts = next(part for part in root["active"]["parts"] if part["name"] == "experts")
    assert experts["active_bytes"] * 32 == experts["bytes"]
    assert root["cache"] == {"values_per_token": 62 * 2 * 8 * 128, "bytes_per_token": 62 * 2 * 8 * 128 * 2, "dtype": "BF16", "full_layers": 62,
                             "windowed": [], "context": 196608, "bytes_at_context": 62 * 2 * 8 * 128 * 2 * 196608}
    assert root["decoder"] == {"norm": "rms", "qk_norm": "whole", "rope": {"dims": 64, "theta": 5e6, "kind": "default"}, "score": "sigmoid", "bias": True,
                               "normalize": True, "activation": "silu", "tied": False, "windows": []}


# Billions that the makers name: 37 (DeepSeek-R1), 32 (GLM-4.5), 3.6 (gpt-oss-20b), 32 (Kimi-K2), 22 (Qwen3-235B-A22B).
@pytest.mark.parametrize(("model", "billions"), [("deepseek-r1", 37), ("glm-4.5-fp8", 32), ("gpt-oss-20b", 3.6), ("kimi-k2.5", 32),
                                                 ("qwen3-235b-a22b-fp8", 22)])
def test_active_parameters_are_what_the_makers_name(model: str, billions: float, tmp_path: Path) -> None:
    active = drawn(tables.write(model, tmp_path / "c"))["active"]
    assert active["parameters"] / 1e9 == pytest.approx(billions, rel=0.035)


def test_shared_experts_count_whole_towers_and_drafts_do_not(tmp_path: Path) -> None:
    parts = {part["name"]: part for part in drawn(tables.write("glm-4.5-fp8", tmp_path / "c"))["active"]["parts"]}
    assert parts["shared experts"]["active"] == parts["shared experts"]["parameters"] == 89 * 3 * 1536 * 5120
    assert parts["draft layers"]["active"] == 0 < parts["draft layers"]["parameters"]
    assert parts["experts"]["active"] == 89 * 8 * 3 * 1536 * 5120
    told = drawn(tables.write("mimo-v2.5", tmp_path / "m", experts=256))["active"]
    assert {p["name"] for p in told["parts"] if not p["active"]} == {"towers", "draft layers"} and "without towers and draft layers" in told["says"]


def test_a_tied_head_is_read_whole(tmp_path: Path) -> None:
    tensors, config = llama(layers=1, hidden=512, vocab=1024, tied=True)
    active = drawn(build(tmp_path / "t", tensors, config))["active"]
    assert "it is the head too" in active["says"] and active["share"] == 1
    embedding = next(part for part in active["parts"] if part["name"] == "embedding")
    assert embedding["active"] == embedding["parameters"] == 1024 * 512
    apart = drawn(build(tmp_path / "a", *llama(layers=1, hidden=512, vocab=1024)))["active"]
    assert {part["name"]: part["active"] for part in apart["parts"]}["embedding"] == 512


def test_without_a_number_of_experts_per_token_all_count(tmp_path: Path) -> None:
    tensors, config = m2(layers=1, experts=4)
    del config["num_experts_per_tok"]
    active = drawn(build(tmp_path / "m", tensors, config))["active"]
    assert "all experts" in active["says"]
    experts = next(part for part in active["parts"] if part["name"] == "experts")
    assert experts["active"] == experts["parameters"]


def test_caches_of_windows_latents_and_heads_of_their_own(tmp_path: Path) -> None:
    cache = drawn(tables.write("gpt-oss-20b", tmp_path / "o"))["cache"]
    assert (cache["values_per_token"], cache["full_layers"], cache["windowed"]) == (24 * 2 * 8 * 64, 12, [[128, 12]])
    assert cache["bytes_at_context"] == 12 * 2 * 8 * 64 * 2 * (131072 + 128)
    assert drawn(tables.write("deepseek-r1", tmp_path / "d", experts=1))["cache"]["values_per_token"] == 61 * (512 + 64)
    mimo = drawn(tables.write("mimo-v2.5", tmp_path / "m", experts=1))["cache"]
    assert mimo["values_per_token"] == 9 * 4 * (192 + 128) + 39 * 8 * (192 + 128)  # windowed layers have 8 key/value heads
    assert drawn(build(tmp_path / "n", llama()[0], {"model_type": "llama"}))["cache"] is None


@pytest.mark.parametrize("model_type", ["ernie4_5_moe", "nobody_knows"])
def test_experts_of_a_token_under_another_key(model_type: str, tmp_path: Path) -> None:
    """ERNIE 4.5 says `moe_k`: half of six experts, known family or not."""
    config = config_of("ernie4_5_moe") | {"moe_k": 3, "moe_num_experts": 6}
    headers = {c.name: ("BF16", c.placement.shape) for c in published(inventory(config))}
    active = drawn(tables.write_headers(tmp_path / "c", headers, config | {"model_type": model_type}))["active"]
    experts = next(part for part in active["parts"] if part["name"] == "experts")
    assert 2 * experts["active"] == experts["parameters"] > 0 and active["says"].startswith("3 of 6 experts")

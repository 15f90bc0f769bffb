"""One model in every layout: the same tokens from each, and logits that differ by what the layout loses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import weighbridge as wb
from tests.engine.families import all_logits, engine, gap, greedy, source

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"
PROMPT = [1, 300, 17, 4, 950, 12, 77, 8]
IDS = np.random.default_rng(3).integers(0, 2048, 300)


def middle_gap(a: np.ndarray, b: np.ndarray) -> float:
    """The gap of the middle row: of 300 random tokens a few choose another expert after any rounding."""
    return float(np.median([gap(x, y) for x, y in zip(a, b, strict=True)]))


@pytest.fixture(scope="module")
def published():
    model = engine(DEMO)
    return greedy(model, PROMPT, 64), all_logits(model, IDS)


def test_tokens_and_logits_are_many(published):
    tokens, logits = published
    assert len(set(tokens)) > 8 and logits.shape == (300, 2048) and np.isfinite(logits).all()


def test_exact_neuron_files_give_the_same(published, tmp_path):
    """All but the odd codes below 2^-5 are halved without loss."""
    wb.open(DEMO).convert(tmp_path / "out", "neuron", attention="exact")
    model = engine(tmp_path / "out")
    assert model.source.layout == "neuron"
    assert greedy(model, PROMPT, 64) == published[0]
    assert gap(all_logits(model, IDS), published[1]) < 2e-5


@pytest.mark.parametrize(("tp", "moe_tp"), [(2, 1), (4, 1), (8, 1), (4, 2), (8, 2)])
def test_shards_put_together_give_the_same(published, tmp_path, tp, moe_tp):
    """Padded query heads and repeated key/value heads count once. NxD's shards hold the router in bfloat16, which is the gap."""
    wb.open(DEMO).convert(tmp_path / "out", "neuron", attention="exact", shards=True, tp=tp, moe_tp=moe_tp)
    model = engine(tmp_path / "out")
    assert model.source.layout == "neuron-shards" and len(model.source.checkpoint.ranks) == tp
    assert greedy(model, PROMPT, 64) == published[0]
    assert middle_gap(all_logits(model, IDS), published[1]) < 0.003


def test_shards_differ_from_the_files_by_the_router_alone(tmp_path):
    """With its float32 weights rounded, the published form gives what the shards give."""
    wb.open(DEMO).convert(tmp_path / "out", "neuron", attention="exact", shards=True, tp=4)
    bound = source(DEMO)
    rounded = engine(DEMO)
    from weighbridge.engine.weights import Weights
    from weighbridge.plan.reader import Reader

    weights = Weights(bound, Reader(bound), rounded=True)
    for layer in rounded.decoder.layers:
        layer.feed.router = weights.linear(f"layers.{layer.number}.moe.router")
        layer.feed.bias = weights.vector(f"layers.{layer.number}.moe.router_bias")
    assert gap(all_logits(engine(tmp_path / "out"), IDS), all_logits(rounded, IDS)) < 2e-5


def test_bf16_files_round_once(published, tmp_path):
    wb.open(DEMO).convert(tmp_path / "out", "hf-bf16")
    model = engine(tmp_path / "out")
    assert model.source.layout == "hf-bf16"
    assert 1e-6 < middle_gap(all_logits(model, IDS), published[1]) < 0.003


def test_a_wrong_scale_shows(published, tmp_path):
    """The reciprocal scale rule makes weights about 1e8 times too large; logits must be far off, or the tests above prove nothing."""
    wb.open(DEMO).convert(tmp_path / "out", "neuron", scale_rule="reciprocal", allow=("reciprocal",))
    logits = all_logits(engine(tmp_path / "out"), IDS[:20])
    assert not np.isfinite(logits).all() or gap(logits, published[1][:20]) > 0.5

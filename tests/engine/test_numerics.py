"""`numerics="neuron"`: what a Neuron device makes of the same bytes."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import weighbridge as wb
from tests.engine.families import all_logits, config_of, engine, gap, source, write_model
from tests.layouts.nxd_reference import repeat_heads, zero_heads
from weighbridge.engine.attention import HeadNorm
from weighbridge.engine.engine import head_groups
from weighbridge.errors import Refused, Usage
from weighbridge.models.architecture import architecture

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"
IDS = np.arange(20, 60)


def by_rank(x_TD, weight, heads, groups, target, tp, repeat):
    """NxD's own order: pad or repeat, cut to ranks, normalize each rank's values, take the real heads back."""
    spread = (lambda a: repeat_heads(a, heads, target)) if repeat else (lambda a: zero_heads(a, heads, groups, target, 0))
    x_RD, weight = spread(x_TD.T).reshape(tp, -1, len(x_TD)), spread(weight).reshape(tp, -1, 1)
    y = x_RD / np.sqrt((x_RD**2).mean(1, keepdims=True) + 1e-6) * weight
    slots = spread(np.arange(1, heads + 1).repeat(1)).reshape(-1)
    first = [int(np.flatnonzero(slots == h + 1)[0]) for h in range(heads)]
    return y.reshape(target, -1, len(x_TD))[first].reshape(-1, len(x_TD)).T


@pytest.mark.parametrize(("tp", "query", "keys"), [(1, 6, 2), (2, 6, 2), (4, 8, 4), (8, 8, 8)])
def test_each_rank_normalizes_its_own_heads(tp, query, keys):
    """6 query heads on 4 ranks: the second rank has head 2 and a zero head, whose values count in the mean."""
    config = config_of("minimax_m2") | {"hidden_size": 64}  # NxD cuts it too
    arch = architecture(config)
    bound = type("S", (), {"options": type("O", (), {"tp": 0})})
    q_groups, k_groups = head_groups(arch, bound, "neuron", tp)
    random = np.random.default_rng(0)
    for heads, target, groups, repeat in ((6, query, q_groups, False), (2, keys, k_groups, True)):
        x, weight = random.standard_normal((5, heads * 16)).astype(np.float32), random.uniform(0.5, 2, heads * 16).astype(np.float32)
        ours = HeadNorm(weight, heads, 16, 1e-6, groups)(x.reshape(5, heads, 16)).reshape(5, -1)
        assert gap(ours, by_rank(x, weight, heads, 2, target, tp, repeat)) < 1e-6
        if tp > 1:
            plain = HeadNorm(weight, heads, 16, 1e-6, head_groups(arch, bound, "plain", tp)[0 if heads == 6 else 1])(x.reshape(5, heads, 16))
            assert gap(plain.reshape(5, -1), ours) > 0.01


def test_codes_above_240_are_infinity(tmp_path):
    """The published bytes, copied as they are, hold codes up to 448: nothing finite is left. Halved ones run."""
    raw = all_logits(engine(DEMO, numerics="neuron"), IDS[:12])
    assert not np.isfinite(raw).any()
    wb.open(DEMO).convert(tmp_path / "out", "neuron", attention="exact")
    assert np.isfinite(all_logits(engine(tmp_path / "out", numerics="neuron"), IDS)).all()


def test_one_rank_differs_by_the_router_alone(tmp_path):
    """At TP 1 the norms are whole. A router that bfloat16 holds exactly then gives the same logits; another one does not."""
    folder = write_model(tmp_path / "m", config_of("minimax_m2"))  # its values are exact in bfloat16
    plain = all_logits(engine(folder), IDS)
    assert gap(all_logits(engine(folder, numerics="neuron", tp=1), IDS), plain) < 1e-6
    assert gap(all_logits(engine(folder, numerics="neuron", tp=2), IDS), plain) > 0.01


def test_router_and_bias_are_rounded(tmp_path):
    wb.open(DEMO).convert(tmp_path / "out", "neuron", attention="exact")
    plain, neuron = engine(tmp_path / "out"), engine(tmp_path / "out", numerics="neuron")
    for a, b in zip(plain.decoder.layers, neuron.decoder.layers, strict=True):
        for x, y in ((a.feed.bias, b.feed.bias), (a.feed.router.rows(np.arange(8)), b.feed.router.rows(np.arange(8)))):
            assert (x != y).any() and np.array_equal(x.astype(ml_dtypes.bfloat16).astype(np.float32), y)


def test_the_degree_is_that_of_the_files_or_the_one_given(tmp_path):
    wb.open(DEMO).convert(tmp_path / "out", "neuron", attention="exact", tp=4)
    told = all_logits(engine(tmp_path / "out", numerics="neuron"), IDS)
    assert gap(all_logits(engine(tmp_path / "out", numerics="neuron", tp=4), IDS), told) == 0
    assert gap(all_logits(engine(tmp_path / "out", numerics="neuron", tp=8), IDS), told) > 0.001


def test_what_neuron_cannot_cut_is_refused():
    with pytest.raises(Refused) as caught:
        engine(DEMO, numerics="neuron", tp=3)
    assert "R14" in str(caught.value) and "TP 3" in str(caught.value)
    with pytest.raises(Usage):
        engine(DEMO, numerics="fast")
    assert source(DEMO).options.tp == 0

"""Sessions: blocks, capacity, what `observe` sees, ranges of layers, bytes counted, and what is refused."""

from __future__ import annotations

import gc
import json
import shutil

import numpy as np
import pytest

from tests.engine.families import COMMON, VARIANTS, all_logits, config_of, engine, gap, source, write_model
from weighbridge.engine.attention import rms_norm
from weighbridge.engine.engine import load
from weighbridge.engine.memory import BLOCK
from weighbridge.errors import Refused, Usage, WeighbridgeError
from weighbridge.testing.tiny import RAGGED, write_tiny

IDS = np.random.default_rng(1).integers(0, 64, 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("minimax"), config_of("minimax_m2"))


@pytest.fixture(scope="module")
def model(folder):
    return engine(folder)


def test_blocks_of_a_long_prompt_join(folder):
    """More than two blocks at once, against any other cut of the same tokens."""
    model, ids = engine(folder), np.random.default_rng(2).integers(0, 64, 2 * BLOCK + 40)
    whole = all_logits(model, ids)
    session = model.session(len(ids))
    assert gap(np.concatenate([session.feed(part, rows="all") for part in np.array_split(ids, 7)]), whole) < 1e-5
    assert session.position == len(ids)
    assert np.array_equal(model.session(len(ids)).feed(ids), whole[-1]) or gap(model.session(len(ids)).feed(ids), whole[-1]) < 1e-5


def test_long_attention_is_cut_into_steps(folder, monkeypatch):
    from weighbridge.engine import attention

    model = engine(folder)
    whole = all_logits(model, IDS)
    monkeypatch.setattr(attention, "SCORES", 100)
    assert gap(all_logits(model, IDS), whole) < 1e-5


def test_a_later_token_changes_nothing_before_it(model):
    other = IDS.copy()
    other[20] = (other[20] + 1) % 64
    a, b = all_logits(model, IDS), all_logits(model, other)
    assert gap(a[:20], b[:20]) < 1e-6 and gap(a[20:], b[20:]) > 0.01


def test_sessions_do_not_disturb_each_other(model):
    one, two = model.session(30), model.session(30)
    one.feed(IDS[:10])
    two.feed(IDS[10:20])
    assert np.allclose(one.feed(IDS[10:], rows="all")[-1], all_logits(model, IDS)[-1], atol=1e-5)


def test_what_observe_sees(model):
    seen = {}
    logits = model.session(30).feed(IDS, rows="all", observe=lambda name, array: seen.update({name: array.copy()}))
    stages = ["attn", "router", "chosen", "experts", "block"]
    assert list(seen) == ["embed", *(f"layers.{l}.{stage}" for l in range(3) for stage in stages), "norm", "logits"]
    assert seen["layers.1.router"].shape == (30, 6) and seen["layers.1.router"].dtype == np.float32
    assert seen["layers.1.chosen"].shape == (30, 2) and seen["layers.1.chosen"].dtype == np.int64
    assert np.array_equal(seen["logits"], logits)
    for layer in range(3):
        before = seen["embed"] if layer == 0 else seen[f"layers.{layer - 1}.block"]
        assert gap(before + seen[f"layers.{layer}.attn"] + seen[f"layers.{layer}.experts"], seen[f"layers.{layer}.block"]) < 1e-6
        feed = model.decoder.layers[layer].feed
        scores = 1 / (1 + np.exp(-seen[f"layers.{layer}.router"])) + feed.bias
        best = np.take_along_axis(scores, seen[f"layers.{layer}.chosen"], 1)
        assert (np.diff(best) <= 0).all() and np.allclose(best, -np.sort(-scores, 1)[:, :2])
    assert gap(rms_norm(seen["layers.2.block"], model.decoder.norm, 1e-6), seen["norm"]) < 1e-6


def test_an_observed_array_may_be_kept(model):
    seen = {}
    model.session(30).feed(IDS, observe=seen.__setitem__)
    kept = {name: array.copy() for name, array in seen.items()}
    model.session(30).feed(IDS[::-1], observe=lambda *_: None)
    again = {}
    model.session(30).feed(IDS, observe=lambda name, array: again.update({name: array.copy()}))
    assert all(np.array_equal(kept[name], again[name]) and np.array_equal(seen[name], again[name]) for name in again)


def test_a_range_of_layers(folder, model):
    """Layers 0 and 1 alone give the stream that the whole model has behind layer 1."""
    seen, part = {}, {}
    model.session(30).feed(IDS, rows="all", observe=lambda name, array: seen.update({name: array.copy()}))
    engine(folder, layers=(0, 2)).session(30).feed(IDS, rows="all", observe=lambda name, array: part.update({name: array.copy()}))
    assert "layers.2.block" not in part and np.array_equal(part["layers.1.block"], seen["layers.1.block"])
    only = engine(folder, layers=(2, 3))
    assert [layer.layer for layer in only.plan.layers] == [2] and only.session(5).feed(IDS[:5]).shape == (64,)
    for wrong in ((2, 2), (0, 4), (-1, 2)):
        with pytest.raises(Usage) as caught:
            engine(folder, layers=wrong)
        assert "the model's 3" in str(caught.value)


def test_bytes_that_a_token_uses(folder):
    """One token: every matrix once, two of six experts, one row of the embedding."""
    model = engine(folder)
    model.session(4).feed([5])
    experts, attention = 3 * 2 * 3 * 40 * 72 * 2, 3 * (96 * 40 + 2 * 32 * 40 + 40 * 96) * 2
    router, head, row = 3 * 6 * 40 * 4, 64 * 40 * 2, 40 * 2
    assert model.bytes_used == model.bytes_read == experts + attention + router + head + row
    vectors = 2 * 40 * (2 * 3 + 1) + 3 * (2 * (96 + 32) + 4 * 6)
    assert model.plan.active_bytes_per_token == model.bytes_used + vectors
    assert model.plan.resident_bytes == sum(b.weight.nbytes for b in model.source.bound)


def test_ids_and_capacity_are_checked(model):
    session = model.session(8)
    for wrong, text in (([], "no sequence"), ([1.5], "no sequence"), ([64], "64"), ([-1], "-1"), ([[1]], "no sequence"), ([1] * 9, "8")):
        with pytest.raises(WeighbridgeError) as caught:
            session.feed(wrong)
        assert text in str(caught.value)
    assert session.position == 0
    session.feed([1] * 8)
    with pytest.raises(WeighbridgeError) as caught:
        session.feed([1])
    assert "8 tokens were fed" in str(caught.value) and session.position == 8
    for wrong in (0, -1, "x", 1 << 30):
        with pytest.raises(Usage):
            model.session(wrong)
    with pytest.raises(Usage):
        model.session(4).feed([1], rows="some")


def test_missing_and_surplus_weights_are_refused_by_name(folder, tmp_path):
    config = config_of("minimax_m2")
    shutil.copytree(folder, tmp_path / "more")
    (tmp_path / "more" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4, "attn_type_list": [1] * 4}))
    with pytest.raises(Refused) as caught:
        engine(tmp_path / "more")
    assert "model.layers.3.self_attn.q_proj.weight" in str(caught.value) and len(caught.value.problems) == 8 + 2 + 18
    shutil.copytree(folder, tmp_path / "less")
    (tmp_path / "less" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2, "attn_type_list": [1] * 2}))
    with pytest.raises(Refused) as caught:
        engine(tmp_path / "less")
    assert {p.code for p in caught.value.problems} == {"surplus-tensor"}
    assert engine(tmp_path / "less", allow=("surplus-tensor",)).session(2).feed([1]).shape == (64,)


def test_bad_scales_are_refused_before_anything_runs(tmp_path):
    bad = write_tiny(tmp_path / "bad", **RAGGED)
    bound = source(bad)
    held = next(b for b in bound.bound if b.scale is not None)
    with open(bad / held.scale.file, "r+b") as file:
        file.seek(held.scale.start)
        file.write(np.float32(np.nan).tobytes())
    for limit in (None, 1 << 40):
        with pytest.raises(Refused) as caught:
            load(source(bad), max_memory=limit)
        assert held.scale.name in str(caught.value)


def test_families_without_a_forward_pass_are_named(tmp_path):
    from weighbridge.models import FAMILIES
    from weighbridge.models.architecture import RUNS, architecture

    others = [name for name, file in FAMILIES.items() if file not in RUNS]
    for name in others:
        with pytest.raises(WeighbridgeError) as caught:
            architecture({"model_type": name})
        assert name in str(caught.value) and "qwen3_moe" in str(caught.value)
    assert sorted({c["model_type"] for c in VARIANTS.values()}) == sorted(RUNS)
    with pytest.raises(WeighbridgeError):
        architecture(COMMON | {"model_type": "gpt2"})


def test_memory_goes_with_the_session(folder):
    model = engine(folder, max_memory=1 << 40)
    session = model.session(1000)
    assert model._taken == 2 * 4 * 3 * 2 * 16 * 1000
    del session
    gc.collect()
    assert model._taken == 0

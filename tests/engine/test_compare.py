"""`compare`: its sums, its tolerances, and each typical fault found at its layer on the demo checkpoint."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine import faults
from weighbridge import api as wb
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.engine import diagnosis
from weighbridge.engine.capture import Capture, write_capture
from weighbridge.engine.compare import CaptureSide, EngineSide, compare
from weighbridge.engine.engine import load
from weighbridge.engine.stages import Meter, Meters, Outcome
from weighbridge.errors import WeighbridgeError
from weighbridge.plan.bind import bind

POSITIONS = 256


@pytest.fixture(scope="module")
def ids() -> list[list[int]]:
    from weighbridge.engine.tokenizer import Tokenizer

    pytest.importorskip("tokenizers")
    text = (faults.DEMO / "heldout.txt").read_text(encoding="utf-8")[:3000]
    whole = Tokenizer(open_checkpoint(faults.DEMO)).encode(text)[:POSITIONS]
    assert len(whole) == POSITIONS
    return [whole[:128], whole[128:]]


def side(path: Path, numerics: str = "plain", **settings) -> EngineSide:
    source = bind(open_checkpoint(path))
    return EngineSide(load(source, numerics=numerics, **settings), source, numerics)


@pytest.fixture(scope="module")
def demo() -> EngineSide:
    return side(faults.DEMO)


# ---- faults, each found at its layer and said in words

FAULTS = {
    "lost_bias": ("layers.2.router", "selection bias"),
    "turned_q": ("layers.1.attn", "rows of q or k in another order"),
    "lost_scale": ("layers.2.attn", "the scale is missing (not multiplied in) on one matrix"),
    "lost_scales": ("layers.1.attn", "the scale is missing (not multiplied in) on two"),
    "doubled_scale": ("layers.2.attn", "B is A times 2,"),
    "exchanged_experts": ("layers.3.experts", "gate and up exchanged"),
    "rounded_router": ("layers.1.router", "rounded to BF16"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_at_its_layer(fault, demo, ids, tmp_path):
    report = compare(demo, side(getattr(faults, fault)(tmp_path / "b")), ids, tokens=0)
    place, words = FAULTS[fault]
    assert (report.ok, report.first_bad_layer) == (False, place)
    assert words in " ".join(report.says)
    before = [row for row in report.layers if row["name"].startswith("layers.") and int(row["name"].split(".")[1]) < int(place.split(".")[1])]
    assert before and all(row["relative"] == 0 for row in before), "the layers before the fault hold the same bytes"


def test_the_same_checkpoint_is_equal(demo, ids):
    report = compare(demo, side(faults.DEMO), ids, tokens=4)
    assert report.ok and report.first_bad_layer is None and report.first_different_token is None and not report.says
    assert report.document()["kl"] == 0 and report.document()["top1_agreement"] == 1
    assert all(row["max_abs"] == 0 and row["cosine"] == 1 for row in report.layers)


# ---- conversions

def converted(tmp_path: Path, **options) -> Path:
    wb.open(faults.DEMO).convert(tmp_path / "b", "neuron", **options)
    return tmp_path / "b"


def test_exact_conversion_computes_the_same(demo, ids, tmp_path):
    report = compare(demo, side(converted(tmp_path, attention="exact")), ids, tokens=4)
    assert report.ok and report.document()["kl"] < 1e-6 and report.document()["top1_agreement"] == 1
    assert report.tolerance.relative == diagnosis.EQUAL
    assert max(row["relative"] for row in report.layers) < 1e-4


@pytest.mark.parametrize("options", [{"attention": "row"}, {"attention": "exact", "scale_rule": "legacy-448-240"}])
def test_requantizing_costs_something_and_is_told_from_a_fault(options, demo, ids, tmp_path):
    report = compare(demo, side(converted(tmp_path, **options)), ids, tokens=0)
    assert report.ok and report.tolerance.relative == diagnosis.ROUNDED and "lossy steps" in report.tolerance.why
    assert 1e-5 < report.document()["kl"] < 0.01
    assert abs(report.document()["nats_difference"]) < 0.02


def test_legacy_rule_makes_every_matrix_larger(demo, ids, tmp_path):
    """The codes of 448/240 round up more often than down: two matrices in a row give about 4 %."""
    report = compare(demo, side(converted(tmp_path, attention="exact", scale_rule="legacy-448-240")), ids, tokens=0)
    ratio = next(row["norm_ratio"] for row in report.layers if row["name"] == "layers.0.attn")
    assert 1.02 < ratio < 1.06


def test_the_reciprocal_is_named(demo, ids, tmp_path):
    report = compare(demo, side(converted(tmp_path, attention="exact", scale_rule="reciprocal", allow=("reciprocal",))), ids, tokens=1)
    assert not report.ok and report.first_bad_layer == "layers.0.attn" and "the reciprocal of the scale" in " ".join(report.says)
    assert report.document()["top1_agreement"] < 0.1 and report.first_different_token is not None


def test_raw_codes_under_neuron_numerics_are_not_numbers(demo, ids):
    report = compare(demo, side(faults.DEMO, "neuron", tp=1), ids, tokens=2)
    assert not report.ok and report.first_bad_layer == "layers.0.attn" and "B gives NaN or infinity from layers.0.attn on" in report.says[0]
    assert report.document()["kl"] is None and report.document()["nats_difference"] is None
    assert report.first_different_token["b"] == -1


def test_converted_codes_under_neuron_numerics_are(demo, ids, tmp_path):
    report = compare(demo, side(converted(tmp_path, attention="exact"), "neuron", tp=1), ids, tokens=0)
    assert report.ok and report.document()["kl"] < 0.01


def test_norms_of_each_rank_alone_are_seen(demo, ids, tmp_path):
    report = compare(demo, side(converted(tmp_path, attention="exact"), "neuron", tp=2), ids, tokens=0)
    assert report.document()["kl"] > 0.001
    grown = {row["name"]: row["relative"] for row in report.layers}
    assert grown["embed"] == 0 and grown["layers.0.attn"] > 0.01


def test_another_rope_theta_is_named(demo, ids, tmp_path):
    shutil.copytree(faults.DEMO, tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    (tmp_path / "b" / "config.json").write_text(json.dumps(config | {"rope_theta": 10000}))
    report = compare(demo, side(tmp_path / "b"), ids, tokens=0)
    assert report.first_bad_layer == "layers.0.attn" and "theta=50000" in report.says[0] and "theta=10000" in report.says[0]
    assert "another rope_theta" in " ".join(report.says)


# ---- captures

def test_a_capture_compares_as_the_engine_does(demo, ids, tmp_path):
    write_capture(tmp_path / "cap", demo.engine, ids, source=demo.source)
    capture = CaptureSide(Capture(tmp_path / "cap"))
    same = compare(demo, capture, ids)
    assert same.ok and same.tolerance.relative == diagnosis.EQUAL and same.document()["kl"] < 1e-9
    fault = compare(capture, side(faults.lost_bias(tmp_path / "b")), ids)
    assert fault.first_bad_layer == "layers.2.router"
    assert fault.first_different_token is None or fault.first_different_token["decoding"] == "text"


def test_two_prompts_are_refused(demo, ids, tmp_path):
    write_capture(tmp_path / "cap", demo.engine, [ids[0][:8]], source=demo.source)
    with pytest.raises(WeighbridgeError, match="token ids were recorded"):
        compare(demo, CaptureSide(Capture(tmp_path / "cap")), ids)


def test_a_wrong_token_is_refused(demo):
    with pytest.raises(WeighbridgeError, match="not one of 2,048"):
        compare(demo, demo, [[5, 2048]])


# ---- the sums

@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 9))
def test_meter_adds_up_what_numpy_says(seed, rows, width):
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((2, rows, width), dtype=np.float32)
    meter = Meter("embed")
    for row in range(rows):
        meter.take(a[row : row + 1], b[row : row + 1])
    d = b.astype(np.float64) - a
    assert meter.relative == pytest.approx(np.linalg.norm(d) / np.linalg.norm(a.astype(np.float64)))
    assert meter.most == pytest.approx(abs(d).max()) and meter.d / meter.values == pytest.approx(abs(d).mean())
    assert meter.cosine == pytest.approx(float((a.astype(np.float64) * b).sum() / np.linalg.norm(a.astype(np.float64)) / np.linalg.norm(b.astype(np.float64))))


def test_meter_counts_what_is_not_finite():
    meter = Meter("norm")
    meter.take(np.array([[1.0, np.inf, 3.0]]), np.array([[np.nan, 2.0, 3.0]]))
    assert (meter.lost_a, meter.lost_b, meter.values, meter.relative) == (1, 1, 1, 0.0)
    gone = Meter("norm")
    gone.take(np.ones((1, 2)), np.full((1, 2), np.nan))
    assert gone.row()["relative"] is None and gone.row()["max_abs"] is None and gone.row()["not_finite"] == [0, 2]


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.5))
def test_noise_in_the_scores_never_looks_like_a_lost_bias(seed, noise):
    """With one bias on both sides, no swap goes against the scores, however large the noise is."""
    random = np.random.default_rng(seed)
    bias = random.standard_normal(8)
    a = random.standard_normal((64, 8))
    b = a + noise * random.standard_normal((64, 8))
    meter = Meter("layers.0.router")
    meter.take_choice(a, b, *(np.argsort(-(x + bias), axis=1)[:, :2] for x in (a, b)))
    assert meter.odd == 0


def test_a_lost_bias_goes_against_the_scores():
    random = np.random.default_rng(1)
    scores = random.standard_normal((64, 8))
    meters = Meters()
    meters.take("layers.0.router", scores, scores)
    meters.take("layers.0.chosen", np.argsort(-(scores + random.standard_normal(8)), axis=1)[:, :2], np.argsort(-scores, axis=1)[:, :2])
    meter = meters.found["layers.0.router"]
    assert meter.other > 10 and meter.odd == meter.swaps


def test_outcome_against_the_formula():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 40, 11))
    follows = random.integers(0, 11, 40)
    follows[-1] = -1
    outcome = Outcome()
    outcome.take(a[:17], b[:17], follows[:17])
    outcome.take(a[17:], b[17:], follows[17:])
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (a, b))
    kl = (p * np.log(p / q)).sum(1)
    loss = -np.log(np.stack([p, q])[:, np.arange(39), follows[:39]])
    found = outcome.document()
    assert found["kl"] == pytest.approx(kl.mean()) and found["kl_stderr"] == pytest.approx(kl.std(ddof=1) / math.sqrt(40))
    assert found["top1_agreement"] == (a.argmax(1) == b.argmax(1)).mean()
    assert found["nats_difference"] == pytest.approx((loss[1] - loss[0]).mean())
    assert found["nats_stderr"] == pytest.approx((loss[1] - loss[0]).std(ddof=1) / math.sqrt(39))


# ---- judgement on made-up stages

def stages(**relative: float | None) -> list[Meter]:
    """Meters of which B = A + noise of the given relative error; None is NaN in B. Names with _ for the dot."""
    random = np.random.default_rng(3)
    made = []
    for name, size in relative.items():
        a = random.standard_normal((16, 32))
        noise = random.standard_normal((16, 32))
        meter = Meter(name.replace("_", ".") if name.startswith("layers") else name)
        meter.take(a, np.full_like(a, np.nan) if size is None else a + size * noise)
        made.append(meter)
    return made


LOOSE = diagnosis.Tolerance(0.25, 0.1, "test")
NOBODY = SimpleNamespace(source=None, numerics="plain")
RECORDED = {"top1_agreement": 0.99, "kl": 0.01}


def judge(found, outcome=RECORDED):
    return diagnosis.judge(found, outcome, LOOSE, NOBODY, NOBODY)


def test_slow_growth_is_not_called_a_broken_tensor():
    grown = {f"layers_{layer}_block": 0.02 * (layer + 1) for layer in range(20)}
    first, says, ok = judge(stages(embed=0.0, **grown))
    assert first in ("layers.11.block", "layers.12.block", "layers.13.block") and not ok and "differs already" in says[0]


def test_a_jump_after_growth_is_found():
    found = stages(embed=0.0, layers_0_attn=0.05, layers_0_experts=0.05, layers_0_block=0.05, layers_1_attn=0.9, layers_1_block=0.5)
    first, says, _ = judge(found)
    assert first == "layers.1.attn" and "what goes into it is in order" in says[0]


def test_the_first_not_finite_stage_is_named():
    first, says, _ = judge(stages(embed=0.0, layers_0_attn=0.0, layers_0_experts=None, layers_0_block=None))
    assert first == "layers.0.experts" and "B gives NaN or infinity from layers.0.experts on" in says[0]


def test_bad_output_without_a_bad_stage():
    first, says, ok = judge(stages(embed=0.0, layers_0_block=0.1), {"top1_agreement": 0.5, "kl": 0.7})
    assert (first, ok) == (None, False) and "add up" in says[0]


def test_a_near_tie_that_rounding_flips_is_no_fault():
    """Equal values, one token of 100 at a tie: its experts are others, and what follows may differ."""
    found = stages(embed=0.0, layers_0_attn=1e-6, layers_0_router=1e-6, layers_0_experts=0.05, layers_0_block=0.04)
    found[2].tokens, found[2].other, found[2].swaps, found[2].odd = 100, 1, 1, 0
    strict = diagnosis.Tolerance(diagnosis.EQUAL, diagnosis.EQUAL_KL, "test")
    first, says, ok = diagnosis.judge(found, {"top1_agreement": 1.0, "kl": 1e-3}, strict, NOBODY, NOBODY)
    assert ok and first is None and "tie" in says[0]
    found[2].tokens = found[2].other = found[2].swaps = 0
    assert diagnosis.judge(found, {"top1_agreement": 1.0, "kl": 1e-3}, strict, NOBODY, NOBODY)[0] == "layers.0.experts"

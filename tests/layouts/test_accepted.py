"""Every option with every layout: it is taken and has an effect, or it is refused in words with the layouts that take it."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

import weighbridge.api as wb
from weighbridge.errors import Refused, Usage, WeighbridgeError
from weighbridge.layouts.accepted import CHOICES, flag, options_of, takers
from weighbridge.layouts.blocks import automatic
from weighbridge.layouts.rows import ROWS
from weighbridge.testing.tiny import EVEN, RAGGED, write_tiny

GIVEN = {"block": (64, 64), "group": 64, "zero_points": True, "keep_scales": True, "scale_dtype": "BF16", "inexact": True, "activation_scales": "", "attention": "exact",
         "scale_rule": "legacy-448-240", "shards": True, "tp": 4, "moe_tp": 2, "moe_ep": 2, "batch": 4, "context": 256}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accepted")
    made = {kind: wb.Model(write_tiny(folder / kind, **EVEN, encoding=kind)) for kind in ("fp8", "bf16")}
    source = made["bf16"].source
    stems = [b.stored.stem for b in source.bound if source.weight(b.stored.placement.parts[0].weight).linear]
    save_file({stem + ".input_scale": np.array([0.5], np.float32) for stem in stems}, folder / "scales.safetensors")
    return made, str(folder / "scales.safetensors")


def test_every_option_of_a_row_can_be_given():
    assert {o for r in ROWS.values() for o in r.options} <= {flag(n) for n in GIVEN}


@pytest.mark.parametrize("kind", ["fp8", "bf16"])
@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("layout", CHOICES)
def test_an_option_is_taken_or_refused(models, layout, name, kind):
    made, scales = models
    value = GIVEN[name] or scales
    if flag(name) not in options_of(layout):
        with pytest.raises(Usage) as caught:
            made[kind].plan(layout, **{name: value})
        hint = caught.value.first.hint
        assert name == "shards" or all(other in hint for other in takers(flag(name)))
        return
    try:
        plan = made[kind].plan(layout, **{name: value})
    except WeighbridgeError as error:
        assert error.code != "internal" and str(error)
        return
    assert name in ("shards", "activation_scales") or getattr(plan.options, name) == value
    if plan.problems:
        with pytest.raises(Refused):
            plan.refuse()


@pytest.mark.parametrize(("layout", "dtype", "stored"), [("hf-fp8", "BF16", "BF16"), ("hf-fp8", "E8M0", "F8_E8M0"), ("ct-int4", "F16", "F16"),
                                                         ("ct-int4", "F32", "F32"), ("ct-fp8-block", "BF16", "BF16")])
def test_scales_are_stored_in_the_dtype_that_is_asked_for(models, layout, dtype, stored):
    plan = models[0]["bf16"].plan(layout, scale_dtype=dtype)
    assert {t.encoding.scale.dtype for t in plan.targets if t.encoding.scale} == {stored}


def test_a_dtype_that_no_scheme_of_the_layout_has_is_refused(models):
    with pytest.raises(Usage, match="F16 is no scale dtype of this layout"):
        models[0]["bf16"].plan("hf-fp8", scale_dtype="F16")


def test_another_block_of_the_destination_does_not_change_how_the_source_is_read(models):
    plan = models[0]["fp8"].plan("hf-fp8", block=(64, 64))
    assert not plan.problems and {t.encoding.block for t in plan.targets if t.encoding.block} == {(64, 64)}
    assert {b.encoding.block for b in plan.source.bound if b.encoding.block} == {(128, 128)}


def test_a_layout_with_a_block_of_its_own_keeps_it(models, tmp_path):
    small = wb.Model(models[0]["fp8"].convert(tmp_path / "small", "hf-fp8", block=(64, 64)) and tmp_path / "small")
    assert {t.encoding.block for t in small.plan("modelopt-fp8-block").targets if t.encoding.block} == {(128, 128)}
    assert {t.encoding.block for t in small.plan("ct-fp8-block").targets if t.encoding.block} == {(64, 64)}


def test_a_group_of_the_source_is_kept(models, tmp_path):
    models[0]["bf16"].convert(tmp_path / "int4", "ct-int4", group=64)
    plan = wb.Model(tmp_path / "int4").plan("gptq-int4")
    assert plan.options.group == 64 and not plan.problems


def test_auto_finds_the_largest_block_that_divides_all_parts(models, tmp_path):
    source = models[0]["bf16"].source
    assert automatic(source)[0] == (128, 128)
    assert automatic(source, 4)[0] == (64, 64)  # 256 rows of experts in four parts
    assert "rows in multiples of 64" in automatic(source, 4)[1]
    ragged = wb.Model(write_tiny(tmp_path / "ragged", **RAGGED, encoding="bf16"))
    assert automatic(ragged.source)[0] == (64, 64)
    plan = ragged.plan("ct-fp8-block", block="auto")
    assert plan.options.block == (64, 64) and not plan.problems
    with pytest.raises(Usage, match="cannot be cut 7 ways"):
        automatic(source, 7)
    with pytest.raises(Usage, match="divides all matrices cut 32 ways"):
        automatic(source, 32)

"""The list that is written names exactly what stays unquantized, for every reader whose way of matching is known."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.families import CONFIGS, facts, groups, modules
from weighbridge.errors import WeighbridgeError
from weighbridge.layouts.configs import Written, written
from weighbridge.layouts.configs import base
from weighbridge.layouts.configs.reading import entries, unexplained
from weighbridge.layouts.rows import ROWS
from weighbridge.runtimes.list_rules import RULE_OF

LISTED = [row for row in ROWS.values() if row.family]
ONE_OF_EACH = [next(row for row in LISTED if row.family == family) for family in dict.fromkeys(row.family for row in LISTED)]
KNOWN = {row.family: [r for r in base.READERS if (r, row.family) in RULE_OF] for row in LISTED}
GROUPS = {family: groups(modules(family)[0]) for family in CONFIGS}


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("row", LISTED, ids=lambda row: row.name)
def test_every_reader_quantizes_what_is_quantized(row, family) -> None:
    about = facts(family, row)
    made = written(about)
    assert {reader: unexplained(made, about, reader) for reader in KNOWN[row.family]} == dict.fromkeys(KNOWN[row.family], ())
    assert unexplained(made, about, "llama.cpp") == ()


@pytest.mark.parametrize("row", ONE_OF_EACH, ids=lambda row: row.family)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_any_skipped_modules_are_named_and_no_others(row, data) -> None:
    family = data.draw(st.sampled_from(sorted(CONFIGS)))
    chosen = data.draw(st.sets(st.sampled_from(range(len(GROUPS[family]))), max_size=12))
    about = facts(family, row, frozenset(m for n in chosen for m in GROUPS[family][n]))
    made = written(about)
    for reader in KNOWN[row.family]:
        assert unexplained(made, about, reader) == (), (reader, entries(made, row.family, reader))


@pytest.mark.parametrize("row", ONE_OF_EACH, ids=lambda row: row.family)
@pytest.mark.parametrize("kind", ["self_attn", "o_proj", "experts", "down_proj", "kv_b_proj"])
@pytest.mark.parametrize("family", CONFIGS)
def test_a_kind_that_is_skipped_in_all_layers(row, kind, family) -> None:
    skipped = frozenset(m for group in GROUPS[family] if any(kind in m.split(".") for m in group) for m in group)
    about = facts(family, row, skipped)
    made = written(about)
    for reader in KNOWN[row.family]:
        assert unexplained(made, about, reader) == (), (reader, entries(made, row.family, reader))
    # vLLM's fp8 reads whole names alone, one for each layer; AWQ's part of the text cannot tell a router from `gate_proj` of the dense layer.
    if row.family not in ("fp8", "mxfp4", "awq"):
        assert len(entries(made, row.family, "vllm")) <= 8


@pytest.mark.parametrize("row", LISTED, ids=lambda row: row.name)
def test_a_list_does_not_grow_with_the_experts(row) -> None:
    few, many = (written(facts("moe", row, config={"num_experts": n})) for n in (4, 64))
    assert json.dumps(few.config["quantization_config"]) == json.dumps(many.config["quantization_config"])


@pytest.mark.parametrize("row", ONE_OF_EACH, ids=lambda row: row.family)
def test_a_wrong_list_is_seen(row) -> None:
    """The proof can fail: without an entry, and with one too many."""
    about = facts("moe", row, frozenset(m for m in modules("moe")[0] if m.endswith("layers.3.self_attn.o_proj") or ".layers.2.mlp.experts." in m))
    made = written(about)
    for reader in KNOWN[row.family]:
        found = set(unexplained(_with(made, row.family, []), about, reader))
        assert any(".layers.2.mlp.experts." in m for m in found), reader
        assert "model.layers.3.self_attn.o_proj" in found or row.family == "mxfp4"
        everything = {"fp8": ["model.layers.5.self_attn.o_proj"], "mxfp4": ["model.layers.5.mlp.experts"], "awq": ["layers.5.self_attn.o_proj"],
                      "compressed-tensors": ["re:.*o_proj$"], "modelopt": ["model.layers.5.self_attn.o_proj"], "quark": ["model.layers.5.self_attn.o_proj"], "gptq": [".*o_proj$"]}[row.family]
        found = unexplained(_with(made, row.family, [*entries(made, row.family, reader), *everything]), about, reader)
        assert any("layers.5." in m for m in found), reader


def _with(made: Written, family: str, listed: list[str]) -> Written:
    claim = dict(made.config["quantization_config"])
    key = {"compressed-tensors": "ignore", "modelopt": "ignore", "quark": "exclude", "gptq": "dynamic"}.get(family, "modules_to_not_convert")
    claim[key] = {f"-:{e}": {} for e in listed} if family == "gptq" else listed
    files = {name: {**doc, "quantization": {**doc["quantization"], "exclude_modules": listed}} if "quantization" in doc else doc for name, doc in made.files.items()}
    return dataclasses.replace(made, config={**made.config, "quantization_config": claim}, files=files)


@pytest.mark.parametrize("row", ONE_OF_EACH, ids=lambda row: row.family)
def test_half_of_a_joined_layer_is_always_told(row) -> None:
    about = facts("dense", row, frozenset({"model.layers.4.self_attn.k_proj"}))
    if row.family == "mxfp4":
        return
    found = unexplained(written(about), about, "vllm")
    assert set(found) == {f"model.layers.4.self_attn.{p}_proj" for p in "qkv"}


def test_what_is_not_known_is_not_an_all_clear() -> None:
    about = facts("dense", ROWS["awq-int4"])
    with pytest.raises(WeighbridgeError, match="not known"):
        unexplained(written(about), about, "tensorrt-llm")


def test_sglang_takes_a_part_of_latent_attention_for_that_of_every_layer() -> None:
    """`model.layers.3.self_attn.kv_b_proj` would name all layers there (`ModelOptQuantConfig.is_layer_excluded`)."""
    about = facts("latent", ROWS["modelopt-fp8-block"], frozenset({"model.layers.3.self_attn.kv_b_proj"}))
    made = written(about)
    plain = _with(made, "modelopt", [*made.config["quantization_config"]["ignore"], "model.layers.3.self_attn.kv_b_proj"])
    assert unexplained(made, about, "sglang") == ()
    assert len(unexplained(plain, about, "sglang")) == 12


def test_the_makers_own_entries_stay_where_they_are_right() -> None:
    config = {"quantization_config": {"quant_method": "fp8", "fmt": "float8_e4m3fn", "weight_block_size": [128, 128],
                                      "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]}}
    made = written(facts("renamed", ROWS["hf-fp8"], config=config)).config["quantization_config"]
    assert made["fmt"] == "float8_e4m3fn" and "lm_head" in made["modules_to_not_convert"]

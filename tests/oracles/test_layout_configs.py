"""What is written for each layout is accepted by the classes that read it: transformers' configs, compressed-tensors' QuantizationConfig."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus
from compressed_tensors.quantization.quant_scheme import PRESET_SCHEMES
from compressed_tensors.utils.match import match_named_modules
from transformers import AutoConfig
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.quantizers.quantizers_utils import should_convert_module

from tests.layouts.families import CONFIGS, encoding, facts, modules
from weighbridge.layouts.configs import Held, written
from weighbridge.layouts.rows import ROWS

COMPRESSED = [name for name, row in ROWS.items() if row.family == "compressed-tensors"]
TRANSFORMERS = [name for name, row in ROWS.items() if row.reader("transformers") and row.reader("transformers").loads == "yes"]
# Layout and whether scales of the activations are static -> the preset of compressed-tensors with the same meaning.
PRESETS = {("ct-fp8-tensor", True): "FP8", ("ct-fp8-channel", False): "FP8_DYNAMIC", ("ct-fp8-block", False): "FP8_BLOCK", ("ct-int8", False): "INT8",
           ("ct-int4", False): "W4A16", ("ct-nvfp4", False): "NVFP4A16", ("ct-nvfp4", True): "NVFP4", ("ct-mxfp4", False): "MXFP4A16", ("ct-mxfp8", False): "MXFP8"}


@pytest.mark.parametrize("layout", TRANSFORMERS)
@pytest.mark.parametrize("family", CONFIGS)
def test_autoconfig_reads_the_output(layout: str, family: str, tmp_path: Path) -> None:
    made = written(facts(family, ROWS[layout])).config
    (tmp_path / "config.json").write_text(json.dumps(made), encoding="utf-8")
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.dtype == (torch.float16 if layout == "hf-f16" else torch.bfloat16)
    claim = getattr(config, "quantization_config", None)
    if not ROWS[layout].family:
        assert claim is None
        return
    read = AutoQuantizationConfig.from_dict(dict(claim))
    assert str(getattr(read.quant_method, "value", read.quant_method)) == claim["quant_method"]


@pytest.mark.parametrize("layout", COMPRESSED)
@pytest.mark.parametrize("family", CONFIGS)
def test_compressed_tensors_accepts_every_claim(layout: str, family: str) -> None:
    said = written(facts(family, ROWS[layout])).config["quantization_config"]
    read = QuantizationConfig.model_validate(said)
    assert read.quantization_status is QuantizationStatus.COMPRESSED and read.format == said["format"]
    assert set(QuantizationConfig.model_fields) >= said.keys()
    cached = QuantizationConfig.model_validate(written(facts(family, ROWS[layout], kv_cache=True)).config["quantization_config"])
    assert (cached.kv_cache_scheme.num_bits, cached.kv_cache_scheme.strategy, cached.kv_cache_scheme.dynamic) == (8, "tensor", False)


def test_several_groups_are_accepted() -> None:
    row, linear = ROWS["ct-int4"], modules("moe")[0]
    attention, rest = (tuple(m for m in linear if (".self_attn." in m) is found) for found in (True, False))
    about = replace(facts("moe", row), held=(Held(encoding(row), rest), Held(encoding(ROWS["ct-fp8-channel"]), attention)))
    said = written(about).config["quantization_config"]
    groups = QuantizationConfig.model_validate(said).config_groups
    norms = [f"model.layers.{n}.self_attn.q_norm" for n in range(12)]
    model = _Model([*about.quantized, *about.plain, *norms])
    for (name, group), held in zip(groups.items(), about.held, strict=True):
        assert {m for m, _ in match_named_modules(model, group.targets, said["ignore"])} == set(held.modules), name


@pytest.mark.parametrize(("layout", "static"), PRESETS, ids=str)
def test_args_mean_what_the_preset_means(layout: str, static: bool) -> None:
    said = written(facts("dense", ROWS[layout], static=static)).config["quantization_config"]
    scheme = QuantizationConfig.model_validate(said).config_groups["group_0"]
    preset = PRESET_SCHEMES[PRESETS[layout, static]]
    for part in ("weights", "input_activations"):
        mine, theirs = getattr(scheme, part), preset.get(part)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            keys = ("num_bits", "type", "symmetric", "strategy", "group_size", "block_structure", "dynamic", "scale_dtype", "actorder")
            assert {k: getattr(mine, k) for k in keys} == {k: getattr(theirs, k) for k in keys}


def test_zero_points_are_asymmetric_to_compressed_tensors() -> None:
    row = ROWS["ct-int4"]
    about = facts("dense", row)
    about = replace(about, held=(Held(encoding(row, "ct-int4-zeros"), about.held[0].modules),))
    scheme = QuantizationConfig.model_validate(written(about).config["quantization_config"]).config_groups["group_0"]
    assert scheme.weights.symmetric is False


class _Model(torch.nn.Module):
    """Empty linear layers under the given paths."""

    def __init__(self, paths: list[str]) -> None:
        super().__init__()
        for path in paths:
            at: torch.nn.Module = self
            *parents, leaf = path.split(".")
            for word in parents:
                if not hasattr(at, word):
                    at.add_module(word, torch.nn.Module())
                at = getattr(at, word)
            at.add_module(leaf, torch.nn.Linear(1, 1, device="meta"))


@pytest.mark.parametrize("family", ["dense", "moe", "latent"])
@pytest.mark.parametrize("kind", ["", "self_attn", "o_proj", "experts"])
def test_compressed_tensors_itself_quantizes_exactly_the_quantized(family: str, kind: str) -> None:
    linear, _ = modules(family)
    about = facts(family, ROWS["ct-int4"], frozenset(m for m in linear if kind in m.split(".")))
    said = written(about).config["quantization_config"]
    draft = {m for m in about.plain if re.search(r"\.12\.", m)}  # transformers builds no draft layer
    model = _Model([*about.quantized, *(m for m in about.plain if m not in draft)])
    found = {name for name, _ in match_named_modules(model, said["config_groups"]["group_0"]["targets"], said["ignore"])}
    routers = {m for m in about.plain if m.endswith("mlp.gate")}  # a parameter there, no Linear
    assert found - routers == set(about.quantized)


@pytest.mark.parametrize("layout", ["hf-fp8", "awq-int4"])
@pytest.mark.parametrize("kind", ["", "self_attn", "o_proj"])
def test_transformers_itself_converts_exactly_the_quantized(layout: str, kind: str) -> None:
    linear, _ = modules("dense")
    about = facts("dense", ROWS[layout], frozenset(m for m in linear if kind in m.split(".")))
    listed = written(about).config["quantization_config"]["modules_to_not_convert"]
    assert {m for m in [*about.quantized, *about.plain] if should_convert_module(m, listed)} == set(about.quantized)

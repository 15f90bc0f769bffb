"""The inventories against the models that transformers builds: every parameter has its name and its shape, on the meta device."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
import transformers

from tests.models.variants import COMMON, VARIANTS, config_of
from weighbridge.layouts.published import stored_forms
from weighbridge.models import FAMILIES, inventory

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Not built by transformers: Kimi-K2 is DeepSeek-V3 by another name; the others have published code of their own, and real tables in tests/models.
ABSENT = {"kimi_k2", "kimi_k25", "mimo_v2", "llama4"}


def built(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of what the class of the model type makes; a tied head is no parameter of its own."""
    known = transformers.CONFIG_MAPPING[config["model_type"]]
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(known(**{key: value for key, value in config.items() if key != "model_type"}))
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        found.pop("lm_head.weight", None)
    return found


def test_every_family_has_a_variant() -> None:
    assert {config["model_type"] for config in VARIANTS.values()} | ABSENT == FAMILIES.keys()


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes_are_those_that_transformers_builds(variant: str) -> None:
    """Each parameter is a candidate of exactly the weights that it holds, and every weight has a parameter."""
    config = config_of(variant)
    parameters = built(config)
    made = inventory(config)
    found = stored_forms(made, lambda stem, suffix: stem + suffix in parameters)
    assert [name for name in made.weights if len(found[name]) != 1] == []
    candidates = {several[0].name: several[0].placement for name, several in found.items() if name in made.weights}
    assert {name: placement.shape for name, placement in candidates.items()} == parameters


@pytest.mark.parametrize("model_type", sorted({config["model_type"] for config in VARIANTS.values()} - {"minimax_m2"}))
def test_absent_keys_mean_what_the_class_says(model_type: str) -> None:
    """Without key/value heads, head width and the tie of the head the family's defaults hold."""
    variant = next(name for name, row in VARIANTS.items() if row["model_type"] == model_type)
    config = config_of(variant) | {"num_attention_heads": 32, "hidden_size": 64}
    for key in ("num_key_value_heads", "head_dim", "tie_word_embeddings"):
        config.pop(key, None)
    if "kv_lora_rank" in config:
        config["num_key_value_heads"] = 32
    made = inventory(config)
    parameters = built(config)
    found = stored_forms(made, lambda stem, suffix: stem + suffix in parameters)
    candidates = {several[0].name: several[0].placement.shape for name, several in found.items() if several and name in made.weights}
    assert candidates == parameters and COMMON["vocab_size"] == made.sizes["vocab"]


@pytest.mark.parametrize("variant", ["mixtral", "qwen3_moe", "gpt_oss", "minimax_m2", "deepseek_v3"])
def test_what_save_pretrained_writes_is_bound(variant: str, tmp_path: Any) -> None:
    """transformers 5 writes the makers' names back; every name in its file is one of the inventory's."""
    config = config_of(variant)
    known = transformers.CONFIG_MAPPING[config["model_type"]]
    model = transformers.AutoModelForCausalLM.from_config(known(**{key: value for key, value in config.items() if key != "model_type"}))
    model.save_pretrained(tmp_path)
    from safetensors import safe_open

    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    made = inventory(config)
    found = stored_forms(made, lambda stem, suffix: stem + suffix in stored)
    candidates = {several[0].name: several[0].placement.shape for name, several in found.items() if several and name in made.weights}
    assert candidates == stored and all(found[name] for name in made.weights)

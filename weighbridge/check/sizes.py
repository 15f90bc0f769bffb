"""Sizes of a model as rules want them: one value of every known size, 0 where the config states none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from weighbridge.models import stated_sizes
from weighbridge.models.sizes import Sizes

SPELLED = {"v_head_dim": "v_dim", "swa_v_head_dim": "swa_v_dim", "rope_dim": "qk_rope"}  # where the documents of `draw` have another word


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """A view of `models.stated_sizes`: as the model's family reads them. `inter` is the dense width, `moe_inter` an expert's."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    swa_kv_heads: int  # of windowed layers, where they have heads of their own (MiMo-V2)
    swa_head_dim: int
    swa_v_head_dim: int
    inter: int
    moe_inter: int
    experts: int
    top_k: int
    vocab: int
    context: int
    kv_lora: int  # multi-head latent attention (DeepSeek): width of the compressed key and value
    rope_dim: int
    tied: bool


def model_sizes(config: Mapping[str, Any]) -> ModelSizes:
    """Never an error: what cannot be a size is 0."""
    found = stated_sizes(config)
    values = {f.name: found[SPELLED.get(f.name, f.name)] for f in fields(ModelSizes) if f.name != "tied"}
    return ModelSizes(**values, tied=Sizes(config).get("tie_word_embeddings") is True)

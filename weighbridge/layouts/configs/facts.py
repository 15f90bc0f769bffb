"""What a writer of configurations must know of an output, and what it gives back. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from weighbridge.formats.scheme import Encoding


class Held(NamedTuple):
    """Modules of the output that are stored with one encoding: names of their codes without the suffix, as the files spell them.

    One expert is `….experts.3.gate_proj`, all of a layer in one tensor `….experts.gate_up_proj`.
    """

    encoding: Encoding
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What is written.

    `config` is the source's config.json; it is copied, never changed. `held` are the quantized modules, one item for each encoding.
    `plain` are the modules that stay unquantized and that a reader may take for a linear layer (heads, routers, skipped projections, towers, draft
    layers), each with its role (`lm_head`, `router`, `mtp`, …) or an empty text. `dtype` is that of the unquantized tensors.
    `static`: scales of the activations lie beside the weights; else activations are quantized as they come, or not at all.
    `kv_cache`: FP8 scales of the KV cache are carried. `powers`: every scale is a power of two. `symmetric`: every zero point is the middle of its
    range (GPTQ and AWQ store zero points in any case). `desc_act`: the groups of input channels are not in order (GPTQ's `g_idx`).
    `unchanged`: the modules that the source's own claim of the same method is about: what it lists stays true.
    """

    model_type: str
    config: Mapping[str, Any]
    layout: str
    held: tuple[Held, ...] = ()
    plain: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "BF16"
    static: bool = False
    kv_cache: bool = False
    powers: bool = False
    symmetric: bool = True
    desc_act: bool = False
    unchanged: bool = False

    @property
    def quantized(self) -> list[str]:
        return [module for held in self.held for module in held.modules]


@dataclass(frozen=True)
class Written:
    """The output's config.json, other files by their names (JSON documents), and patterns of the source's files that would lie beside it."""

    config: dict[str, Any]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    stale: tuple[str, ...] = ()

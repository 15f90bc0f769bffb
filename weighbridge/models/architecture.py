"""What a decoder computes, as data from config.json: enough to run it, and no code.

A family's file has `architecture(config)` beside `inventory(config)`. Both read with the same rules, so a config that
one of them takes, the other takes too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.models import FAMILIES, family
from weighbridge.models.sizes import LONGEST, Sizes

RUNS = ("minimax_m2", "llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "mixtral")  # files with an `architecture`
ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions on the first `dims` values of a head, first half with second half.

    `kind` "linear" divides every frequency by `factor`; "llama3" divides those with a wavelength above
    `original / low`, leaves those below `original / high`, and blends between (transformers 5.23 `modeling_rope_utils.py`).
    """

    dims: int
    theta: float
    kind: str = "default"
    factor: float = 1.0
    low: float = 1.0
    high: float = 1.0
    original: int = 0


@dataclass(frozen=True, slots=True)
class Routing:
    """How a router picks experts.

    `score`: "sigmoid" or "softmax" over all experts, in float32. With `bias` a vector is added for the choice, never for the weights.
    `normalize`: the weights of the chosen are divided by their sum.
    """

    experts: int
    top_k: int
    score: str
    bias: bool
    normalize: bool


@dataclass(frozen=True)
class Architecture:
    """A pre-norm decoder: x += attention(norm(x)); x += mlp_or_experts(norm(x)); norm; head.

    `qk_norm`: "none", "whole" (one RMSNorm over all heads, before the split) or "head" (one for each head).
    `window[l]` is the number of positions that layer l sees, itself included, or 0 for all.
    `sparse[l]`: layer l has experts. `biases`: the projections with a bias (of q, k, v, o, gate, up, down).
    `context` is the number of positions that the config promises.
    """

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    eps: float
    rope: Rope
    qk_norm: str = "none"
    biases: frozenset[str] = frozenset()
    window: tuple[int, ...] = ()
    sparse: tuple[bool, ...] = ()
    routing: Routing | None = None
    tied: bool = False
    activation: str = "silu"
    sizes: dict[str, int] = field(default_factory=dict, hash=False, compare=False)


def architecture(config: dict[str, Any]) -> Architecture:
    """The architecture of the model that `config` (a config.json) describes. Refuses families that cannot be run."""
    file = family(config)
    if file not in RUNS:
        runs = ", ".join(name for name, known in FAMILIES.items() if known in RUNS)
        raise WeighbridgeError("family-not-run", f"model_type {config['model_type']!r:.80} can be inspected, not run; {runs} can",
                               "config.json: model_type", "its forward pass is not written")
    return import_module(f"weighbridge.models.{file}").architecture(config)


class Settings(Sizes):
    """Reads everything that is no size, with every complaint collected before it refuses."""

    def number(self, key: str, default: float | None, low: float, high: float) -> float:
        """A number in (low, high]; `key` may lead into an object: `rope_scaling.factor`."""
        value = self.get(key, default)
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and low < value <= high
        self.require(good, key, f"{_shown(value)}; a number above {low:g} and up to {high:g} is needed")
        return float(value) if good else high  # type: ignore[arg-type]

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        self.require(isinstance(value, bool), key, f"{_shown(value)}; true or false is needed")
        return value is True

    def one_of(self, key: str, default: str, known: tuple[str, ...]) -> str:
        value = self.get(key, default)
        good = isinstance(value, str) and value in known
        self.require(good, key, f"{_shown(value)}; known are {', '.join(known)}")
        return value if good else known[0]  # type: ignore[return-value]


def read_rope(read: Settings, head_dim: int, theta: float, dims: int | None = None) -> Rope:
    """Rotary settings: `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling`.

    `theta` is the family's default, `dims` what the family says of its own.
    """
    where = "rope_parameters" if read.get("rope_parameters", None) else "rope_scaling"
    told = read.get(where, {})
    read.require(isinstance(told, dict), where, f"{_shown(told)}; an object is needed")
    base = read.number(f"{where}.rope_theta" if read.get(f"{where}.rope_theta", None) is not None else "rope_theta", theta, 1, 1e15)
    share_key = f"{where}.partial_rotary_factor" if read.get(f"{where}.partial_rotary_factor", None) is not None else "partial_rotary_factor"
    share = read.number(share_key, (dims or head_dim) / head_dim, 0, 1)
    dims = int(head_dim * share)
    read.require(dims >= 2 and dims % 2 == 0, share_key, f"{dims} of {head_dim} values would be turned; an even number from 2 on is needed")
    key = f"{where}.rope_type" if read.get(f"{where}.rope_type", None) is not None else f"{where}.type"
    kind = read.one_of(key, "default", ROPE_TYPES)
    if kind == "default":
        return Rope(dims, base)
    factor = read.number(f"{where}.factor", None, 0, 1e6)
    if kind == "linear":
        return Rope(dims, base, kind, factor)
    low, high = (read.number(f"{where}.{end}_freq_factor", None, 0, 1e6) for end in ("low", "high"))
    read.require(high > low, f"{where}.high_freq_factor", f"{high:g} is not above low_freq_factor {low:g}")
    original = read.number(f"{where}.original_max_position_embeddings", read.get("max_position_embeddings", None), 0, LONGEST)
    return Rope(dims, base, kind, factor, low, high, int(original))


def read_windows(read: Settings, layers: int, default: int | None, per_layer: bool, switch: bool) -> tuple[int, ...]:
    """Positions that each layer sees (0: all), as transformers 5.23 reads `sliding_window`.

    `default` holds where the key is absent. `switch`: nothing slides unless `use_sliding_window`. `per_layer`: `layer_types`
    says which layers slide, or else those from `max_window_layers` on.
    """
    present = read.get("sliding_window", None if read.has("sliding_window") else default)
    if present is None or (switch and not read.flag("use_sliding_window", False)):
        width = 0
    else:
        width = read.positive("sliding_window", default, most=LONGEST)
    if not per_layer:
        return (width,) * layers
    types = read.get("layer_types", None)
    if types is None:
        first = read.get("max_window_layers", 28)
        good = isinstance(first, int) and not isinstance(first, bool) and first >= 0
        read.require(good, "max_window_layers", f"{_shown(first)}; a whole number from 0 on is needed")
        return tuple(width if good and layer >= first else 0 for layer in range(layers))
    good = isinstance(types, list) and len(types) == layers and all(t in ("full_attention", "sliding_attention") for t in types)
    read.require(good, "layer_types", f"{_shown(types)}; full_attention or sliding_attention is needed for each of {layers} layers")
    slides = good and any(t == "sliding_attention" for t in types)
    read.require(not slides or width > 0, "sliding_window", "layer_types names sliding layers, and no window is told or switched on")
    return tuple(width if t == "sliding_attention" else 0 for t in types) if good else (0,) * layers


def _shown(value: Any) -> str:
    return "is missing" if value is None else f"is {value!r:.80}"

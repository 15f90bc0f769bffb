"""The only reader of sizes: which keys of config.json state a size, what is taken where they are absent, and which sizes cannot be true.

A family states what it has as data (`Wanted`): `read_sizes` reads it and collects every complaint, `stated_sizes` reads what there is.
The keys are those of transformers 5.24 (`configuration_*.py` and their `attribute_map`) and of the published configs in tests/data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from weighbridge.errors import Problem, Refused

MOST = 1 << 24  # no published model is wider
LONGEST = 1 << 24  # tokens; no published context is longer
HEADS = EXPERTS = 65536
LAYERS = 4096
ALL_EXPERTS = 1 << 16  # layers x experts
# Where the language model of a model with towers has its sizes.
NESTED = ("text_config", "llm_config", "language_config")


class Size(NamedTuple):
    """`keys` state it, the commonest first. `least` 0: zero means none, and so does an absent key. `derive` gives it from the sizes read so far."""

    keys: tuple[str, ...]
    most: int = MOST
    least: int = 1
    derive: Callable[[Mapping[str, int]], int] | None = None


def _head_dim(sizes: Mapping[str, int]) -> int:
    latent = sizes.get("qk_nope", 0) + sizes.get("qk_rope", 0)
    return latent or max(1, sizes["hidden"] // max(1, sizes["heads"]))


def _same(name: str) -> Callable[[Mapping[str, int]], int]:
    return lambda sizes: sizes.get(name, 0)


# In this order they are read: a derived size stands behind those that it comes from.
SIZES: Mapping[str, Size] = MappingProxyType({
    "hidden": Size(("hidden_size", "n_embd", "d_model")),
    "layers": Size(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), LAYERS),
    "heads": Size(("num_attention_heads", "n_head", "num_heads", "n_heads"), HEADS),
    "vocab": Size(("vocab_size",)),
    "context": Size(("max_position_embeddings", "n_positions", "max_sequence_length", "model_max_length", "max_seq_len"), LONGEST),
    "kv_heads": Size(("num_key_value_heads", "num_attention_groups", "num_kv_heads", "n_kv_heads"), HEADS, derive=_same("heads")),
    # Latent attention: widths of the compressed query, and of the compressed key and value; the parts of a head without and with positions.
    "q_lora": Size(("q_lora_rank",), least=0),
    "kv_lora": Size(("kv_lora_rank",)),
    "qk_nope": Size(("qk_nope_head_dim",), HEADS),
    "qk_rope": Size(("qk_rope_head_dim",), HEADS),
    "head_dim": Size(("head_dim", "attention_head_dim", "kv_channels"), HEADS, derive=_head_dim),
    "v_dim": Size(("v_head_dim",), HEADS, derive=_same("head_dim")),
    "index_heads": Size(("index_n_heads",), HEADS),
    "index_dim": Size(("index_head_dim",), HEADS),
    # Windowed layers with sizes of their own.
    "swa_heads": Size(("swa_num_attention_heads",), HEADS, derive=_same("heads")),
    "swa_kv_heads": Size(("swa_num_key_value_heads",), HEADS, derive=_same("kv_heads")),
    "swa_head_dim": Size(("swa_head_dim",), HEADS, derive=_same("head_dim")),
    "swa_v_dim": Size(("swa_v_head_dim",), HEADS, derive=_same("v_dim")),
    "inter": Size(("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")),
    "experts": Size(("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"), EXPERTS),
    "top_k": Size(("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k", "moe_top_k", "top_k_experts"), EXPERTS),
    "moe_inter": Size(("moe_intermediate_size", "moe_ffn_hidden_size", "expert_ffn_hidden_size"),
                      derive=lambda sizes: sizes.get("inter", 0) if sizes.get("experts") else 0),
    "shared_experts": Size(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), EXPERTS, 0),
    "shared_inter": Size(("shared_expert_intermediate_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size"),
                         derive=lambda sizes: sizes.get("moe_inter", 0) * sizes.get("shared_experts", 0)),
    "first_dense": Size(("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers"), LAYERS, 0),
    "mtp": Size(("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_layers", "num_mtp_layers"), 64, 0),
})


@dataclass(frozen=True)
class Wanted:
    """The sizes that a family has.

    `defaults` hold where a key is absent, as the family's own class has them; None means that the key must be there although the size could
    be derived. `keys` are asked in place of those of the table (`first` puts one of them in front); an empty tuple means that none states it.
    """

    names: tuple[str, ...]
    defaults: Mapping[str, int | None] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


DENSE = ("hidden", "layers", "heads", "vocab", "kv_heads", "head_dim", "inter")
ROUTED = ("experts", "top_k", "moe_inter")
LATENT = ("q_lora", "kv_lora", "qk_nope", "qk_rope", "v_dim")
ANY = Wanted(tuple(SIZES))  # an unknown family: all that the config states


class Sizes:
    """Reads a config, with every complaint collected before it refuses. A nested language model is asked first, then the whole config."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.nested, inner = nested_config(config)
        self.whole, self.config = config, inner
        self.problems: list[Problem] = []
        self.stated: dict[str, str] = {}  # size -> the key that states it; "" where none does
        self.derived: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether a key is there, be it null."""
        return key in self.config or key in self.whole

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or `default` where it is absent or null; `key` may lead into an object: `rope_scaling.factor`."""
        for value in (self.config, self.whole):
            for word in key.split("."):
                value = value.get(word) if isinstance(value, Mapping) else None  # type: ignore[assignment]
            if value is not None:
                return value
        return default

    def read_sizes(self, wanted: Wanted) -> dict[str, int]:
        """All sizes of a family, and whether they can be true together."""
        found: dict[str, int] = {}
        for name in SIZES:
            if name in wanted.names:
                found[name] = self.size(name, wanted, found)
        self._check(found, wanted)
        return found

    def size(self, name: str, wanted: Wanted = ANY, known: Mapping[str, int] = MappingProxyType({})) -> int:
        """One size. `known` are the sizes that it may be derived from."""
        row, keys = SIZES[name], keys_of(name, wanted)
        key = next((k for k in keys if self.get(k) is not None), "")
        self.stated[name] = key
        if key:
            return self.whole_number(key, None, row.most, row.least)
        absent = not any(self.has(k) for k in keys)
        if absent and wanted.defaults.get(name) is not None:
            return wanted.defaults[name]  # type: ignore[return-value]
        if row.derive is not None and not (name in wanted.defaults and wanted.defaults[name] is None):
            self.derived.add(name)
            return row.derive(known)
        return 0 if row.least == 0 else self.whole_number(keys[0], wanted.defaults.get(name), row.most, row.least)

    def positive(self, key: str, default: int | None = None, most: int = MOST) -> int:
        """A whole number from 1 to `most`."""
        return self.whole_number(key, default, most)

    def whole_number(self, key: str, default: int | None = None, most: int = MOST, least: int = 1) -> int:
        """A whole number from `least` to `most`; `default` where the key is absent or null."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            shown = "is missing" if value is None else f"is {value!r:.80}"
            self.problems.append(Problem("config", f"{key} {shown}; a whole number from {least} to {most:,} is needed", self.where(key),
                                         "take config.json from the publisher again"))
            return least
        return value

    def where(self, key: str) -> str:
        return f"config.json: {self.nested}{key}"

    def require(self, truth: bool, key: str, message: str) -> None:
        if not truth:
            self.problems.append(Problem("config", message, self.where(key)))

    def done(self) -> None:
        if self.problems:
            raise Refused(self.problems)

    def _check(self, sizes: dict[str, int], wanted: Wanted) -> None:
        """What no model has: heads that cannot be shared out, more experts for a token than there are, a million experts."""
        def key(name: str) -> str:
            return self.stated.get(name) or next(iter(keys_of(name, wanted)), name)

        if "head_dim" in sizes and "head_dim" in self.derived and "qk_nope" not in sizes:
            self.require(sizes["hidden"] % sizes["heads"] == 0, key("head_dim") if self.has(key("head_dim")) else key("heads"),
                         f"{key('hidden')} {sizes['hidden']} is not divisible by {sizes['heads']} heads, and {key('head_dim')} is missing")
        for heads, kv_heads in (("heads", "kv_heads"), ("swa_heads", "swa_kv_heads")):
            if kv_heads in sizes and "kv_lora" not in sizes:
                self.require(sizes[heads] % sizes[kv_heads] == 0, key(kv_heads),
                             f"{sizes[heads]} query heads cannot be shared by {sizes[kv_heads]} key/value heads")
        if "experts" not in sizes:
            return
        layers, experts = sizes["layers"] + sizes.get("mtp", 0), sizes["experts"]
        self.require(sizes["top_k"] <= experts, key("top_k"), f"{sizes['top_k']} experts per token, the model has {experts}")
        self.require(layers * experts <= ALL_EXPERTS, key("experts"), f"{layers} layers x {experts} experts is no model that exists")


def keys_of(name: str, wanted: Wanted = ANY) -> tuple[str, ...]:
    """The keys that may state a size, in the order in which they are asked."""
    return wanted.keys.get(name, SIZES[name].keys)


def first(name: str, key: str) -> tuple[str, ...]:
    """The keys of a size with the family's own in front."""
    return (key, *(other for other in SIZES[name].keys if other != key))


def nested_config(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """(`text_config.`, the language model's part of the config), or ("", the config) where it has no part of its own."""
    for key in NESTED:
        inner = config.get(key)
        if isinstance(inner, Mapping):
            return key + ".", inner
    return "", config


def stated_sizes(config: Mapping[str, Any], wanted: Wanted = ANY) -> dict[str, int]:
    """Every size of the table as the family reads it; 0 where the config states none, or nothing that can be a size. Never an error.

    Where a key holds no size, the next one of the same meaning is asked: libraries leave a 0 under a word of their own.
    """
    read = Sizes(config)
    found: dict[str, int] = {}
    for name in SIZES:
        before = len(read.problems)
        value = read.size(name, wanted, found) if name in wanted.names or name == "context" else 0
        if len(read.problems) > before:
            value = next((read.get(key) for key in keys_of(name, wanted) if _is_size(read.get(key), SIZES[name])), 0)
        underived = name == "head_dim" and name in read.derived and not (found["hidden"] and found["heads"])
        found[name] = 0 if underived else value
    return found


def _is_size(value: object, row: Size) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= row.most


def shortened(config: Mapping[str, Any], layers: int, drafts: bool = True) -> dict[str, Any]:
    """The config of the same model with at most `layers` layers, and without draft layers where `drafts` is false: its inventory is small."""
    def cut(part: Mapping[str, Any]) -> dict[str, Any]:
        shorter = dict(part)
        for key in SIZES["layers"].keys:
            if isinstance(part.get(key), int) and not isinstance(part[key], bool) and part[key] > layers:
                shorter[key] = layers
        if not drafts:
            shorter |= {key: 0 for key in SIZES["mtp"].keys if key in part}
        return shorter

    shorter = cut(config)
    return shorter | {key: cut(config[key]) for key in NESTED if isinstance(config.get(key), Mapping)}

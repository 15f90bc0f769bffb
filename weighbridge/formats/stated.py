"""Every claim of a checkpoint (`places`), in common words. Which of them a reader takes, and which keys, is in `check.claim_keys`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.formats.claim import method_family
from weighbridge.formats.places import LIST_KEYS, places

MOST_ENTRIES, LONGEST_ENTRY, MOST_GROUPS = 20_000, 1000, 256


@dataclass(frozen=True)
class ConfigGroup:
    """One of compressed-tensors' config_groups. `kind` is float or int; `strategy` tensor, channel, block, group, tensor_group."""

    name: str
    targets: tuple[str, ...]
    bits: int
    kind: str
    strategy: str
    block: tuple[int, int] | None
    group: int
    fmt: str
    symmetric: bool = True


@dataclass(frozen=True)
class Stated:
    """One claim. `place` is a word of PLACES, `file` and `path` say where it stands. Sizes of 0 and empty texts mean "not said".

    `lists` holds every skip list by its key, entries that are texts only; what else stood there is in `bad_lists`, as text.
    `method` is worked out (`modelopt` from the producer) where `quant_method` is missing: then `method_stated` is False.
    """

    place: str
    file: str
    path: tuple[str, ...]
    method: str = ""
    method_stated: bool = False
    fmt: str = ""
    algo: str = ""
    block: tuple[int, int] | None = None
    block_text: str = ""  # what stands at weight_block_size, where it is no pair of sizes
    group: int = 0
    bits: int = 0
    schemes: tuple[ConfigGroup, ...] = ()
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    bad_lists: dict[str, str] = field(default_factory=dict)
    activation: str = ""
    kv: str = ""
    scale_format: str = ""
    status: str = ""
    expert_dtype: str = ""
    symmetric: bool | None = None
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"{self.file}: {'.'.join(self.path)}" if self.path else self.file

    @property
    def family(self) -> str:
        """`modelopt_fp4` and `modelopt` are one family, `awq_marlin` is AWQ, and so on."""
        return method_family(self.method)

    def key(self, key: str) -> str:
        return f"{'.'.join((*self.path, key))}"


def stated(checkpoint: Checkpoint) -> tuple[Stated, ...]:
    """All claims, in the order of PLACES. Nothing in them is trusted: wrong types are left out."""
    return tuple(_stated(place, file, path, claim) for place, file, path, claim in places(checkpoint))


def _stated(place: str, file: str, path: tuple[str, ...], claim: dict[str, Any]) -> Stated:
    claim = {**claim, **_dict(claim.get("quantization"))} if place != "neuron" else claim  # ModelOpt's form within config.json
    lists, bad = _lists(claim)
    schemes = tuple(_schemes(claim))
    producer = _text(_dict(claim.get("producer")).get("name")).lower()
    method = _text(claim.get("quant_method")).lower().replace("compressed_tensors", "compressed-tensors")
    bnb = "bitsandbytes" if claim.get("load_in_4bit") is True or claim.get("load_in_8bit") is True else ""
    block = _pair(claim.get("weight_block_size")) or _pair(claim.get("quantization_block_size"))
    value = claim.get("weight_block_size")
    loaded = 4 if claim.get("load_in_4bit") is True else 8 if claim.get("load_in_8bit") is True else 0
    return Stated(
        place, file, path, method or bnb or ("modelopt" if producer == "modelopt" or "quant_algo" in claim else ""), bool(method or bnb),
        _text(claim.get("fmt") or claim.get("format")), _text(claim.get("quant_algo")).upper(),
        block or next((s.block for s in schemes if s.block), None),
        "" if value is None or block else repr(value)[:80], _size(claim.get("group_size")) or next((s.group for s in schemes if s.group), 0),
        _size(claim.get("bits")) or _size(claim.get("w_bit")) or loaded,
        schemes, lists, bad, _text(claim.get("activation_scheme")), _kv(claim), _text(claim.get("scale_fmt")),
        _text(claim.get("quantization_status")),
        _text(claim.get("expert_dtype")), claim.get("sym") if isinstance(claim.get("sym"), bool) else None, claim)


def _lists(claim: dict[str, Any]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    lists: dict[str, tuple[str, ...]] = {}
    bad: dict[str, str] = {}
    for key in LIST_KEYS:
        value = claim.get(key)
        if value is None:
            continue
        if not isinstance(value, list):
            bad[key] = f"{type(value).__name__} {value!r:.60}"
            continue
        lists[key] = tuple(v for v in value[:MOST_ENTRIES] if isinstance(v, str) and len(v) <= LONGEST_ENTRY)
        odd = [v for v in value[:MOST_ENTRIES] if not isinstance(v, str) or len(v) > LONGEST_ENTRY]
        if odd or len(value) > MOST_ENTRIES:
            many = f"{len(value):,} entries, more than {MOST_ENTRIES:,}"
            bad[key] = many if len(value) > MOST_ENTRIES else f"{odd[0]!r:.60} among {len(value):,} entries"
    dynamic = _dict(claim.get("dynamic"))
    if dynamic:
        lists["dynamic"] = tuple(k[2:] for k in list(dynamic)[:MOST_ENTRIES] if isinstance(k, str) and k.startswith("-:") and len(k) <= LONGEST_ENTRY)
    return lists, bad


def _schemes(claim: dict[str, Any]) -> Iterator[ConfigGroup]:
    for name, group in list(_dict(claim.get("config_groups")).items())[:MOST_GROUPS]:
        weights, targets = _dict(_dict(group).get("weights")), _dict(group).get("targets")
        if weights:
            listed = tuple(t for t in targets[:MOST_ENTRIES] if isinstance(t, str) and len(t) <= LONGEST_ENTRY) if isinstance(targets, list) else ()
            yield ConfigGroup(str(name)[:80], listed, _size(weights.get("num_bits")), _text(weights.get("type")).lower(),
                         _text(weights.get("strategy")).lower(),
                         _pair(weights.get("block_structure")), _size(weights.get("group_size")),
                         _text(_dict(group).get("format") or claim.get("format")),
                         weights.get("symmetric") is not False)


def _kv(claim: dict[str, Any]) -> str:
    scheme = claim.get("kv_cache_scheme")
    if isinstance(scheme, dict):
        return f"{_text(scheme.get('type')).upper()}{_size(scheme.get('num_bits')) or ''}"
    return _text(claim.get("kv_cache_quant_algo") or scheme)


def _pair(value: Any) -> tuple[int, int] | None:
    return (value[0], value[1]) if isinstance(value, list) and len(value) == 2 and all(_size(v) for v in value) else None


def _size(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 20 else 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value[:200] if isinstance(value, str) else "" if value is None else repr(value)[:200]

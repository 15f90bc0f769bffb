"""Bytes of one rank: its share of the weights, and its key/value cache; and the degrees at which both fit a device.

What is counted is what headers and settings say. Activations, graphs and the runtime itself are not: nobody can read them from files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from weighbridge.check import cuts
from weighbridge.check.case import Case, per_case
from weighbridge.check.nxd_settings import nxd
from weighbridge.check.settings import Settings, Target
from weighbridge.errors import WeighbridgeError
from weighbridge.models.architecture import architecture
from weighbridge.runtimes import neuron as reader

LARGEST = cuts.LARGEST


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes of one rank. `attention`, `experts` and `rest` (dense layers, embedding, head, norms, router, towers) are weights."""

    attention: int
    experts: int
    rest: int
    cache: int

    @property
    def weights(self) -> int:
        return self.attention + self.experts + self.rest

    @property
    def total(self) -> int:
        return self.weights + self.cache


def of_rank(case: Case, settings: Settings, target: Target, degrees: cuts.Degrees | None = None) -> Bytes:
    """What the fullest rank holds under `settings` (`nxd_settings.effective`)."""
    d = degrees or of_settings(settings, target)
    found = {"attention": 0, "experts": 0, "rest": 0}
    counted = 0
    for part, share in shares(case, settings, target, d):
        counted += part.bytes
        found[part.group if part.group in found else "rest"] += share
    found["rest"] += max(0, case.survey.total.bytes - counted)  # norms, biases, helpers: whole on every rank
    return Bytes(found["attention"], found["experts"], found["rest"], cache_bytes(case, settings, d))


def shares(case: Case, settings: Settings, target: Target, d: cuts.Degrees) -> Iterator[tuple[cuts.CutPart, int]]:
    """Each part with the bytes of it that the fullest rank holds. What is in no part (norms, biases, helpers) is whole on every rank."""
    twice = target.runtime == "neuron" and nxd(case).flag("quantized") is False  # the contrib port decodes FP8 to BF16 at load
    pipeline = settings.pp or 1
    for part in cuts.parts(case):
        share = _padded(case, part, d) if target.runtime == "neuron" and part.role in ("attention.q", "attention.o") else _share(case, part, d)
        share *= 2 if twice and part.dtype.startswith("F8") else 1
        yield part, -(-share // (pipeline if _layered(part) else 1))


def of_settings(settings: Settings, target: Target) -> cuts.Degrees:
    """As `cuts.degrees`; transformers' plan for tensor parallelism cuts experts too."""
    tp = settings.tp or 1
    return cuts.Degrees(tp, tp, tp, tp, 1) if target.runtime == "transformers" else cuts.degrees(settings, target)


def _share(case: Case, part: cuts.CutPart, d: cuts.Degrees) -> int:
    leaf = part.role.partition(".")[2]
    if part.group == "experts":
        experts = case.sizes.experts or 1
        dealt = -(-experts // d.moe_ep) if d.moe_ep > 1 else experts
        return -(-part.bytes * dealt // (experts * d.moe_tp))
    if part.group in ("embedding", "lm_head"):
        return -(-part.bytes // d.tp)  # cut along the vocabulary (vLLM, SGLang) or the width (NxD)
    if leaf in cuts.CUT_AXIS:
        return -(-part.bytes // cuts.ways(part, case.sizes, d))
    return -(-part.bytes // d.attention) if part.role == "attention.qkv" else part.bytes


def _padded(case: Case, part: cuts.CutPart, d: cuts.Degrees) -> int:
    """NxD adds zero heads until every rank has as many: 48 heads at TP 64 are one for each rank, not three quarters."""
    heads = case.sizes.heads or 1
    return -(-part.bytes * reader.query_heads({"heads": heads}, d.attention) // (heads * d.attention))


def _layered(part: cuts.CutPart) -> bool:
    return ".layers." in f".{part.name}" or ".blocks." in f".{part.name}"


def value_bytes(settings: Settings) -> int:
    """Bytes of one cached value."""
    fp8 = settings.kv_cache_dtype.lower().startswith(("fp8", "f8", "int8")) or settings.neuron.get("kv_cache_quant") is True
    return 1 if fp8 else 2


def cache_bytes(case: Case, settings: Settings, d: cuts.Degrees) -> int:
    """Key/value cache of `batch` sequences of `context` tokens. Key/value heads fewer than ranks are repeated; latent attention is held whole."""
    sizes = case.sizes
    tokens = (settings.context or sizes.context) * max(1, settings.batch)
    if not sizes.layers or not tokens:
        return 0
    total = sum(values_of_layer(case, d, windowed=window > 0) * (min(tokens, window * max(1, settings.batch)) if window else tokens)
                for window in windows(case))
    return total * value_bytes(settings) // (settings.pp or 1)


def values_of_layer(case: Case, d: cuts.Degrees, *, windowed: bool = False) -> int:
    """Values that one layer keeps of one token on one rank (`Degrees()`: without ranks). MiMo's windowed layers have heads of their own."""
    sizes = case.sizes
    if sizes.kv_lora:
        return sizes.kv_lora + sizes.rope_dim
    heads, keys, values = sizes.kv_heads or sizes.heads, sizes.head_dim, sizes.v_head_dim or sizes.head_dim
    if windowed:
        heads, keys, values = sizes.swa_kv_heads or heads, sizes.swa_head_dim or keys, sizes.swa_v_head_dim or values
    return -(-heads // d.attention) * (keys + values)


def windows(case: Case) -> Iterator[int]:
    """For each layer the tokens that it keeps: 0 for all. Linear attention keeps a state of fixed size, which is not counted."""
    window = case.text_config.get("sliding_window")
    window = window if isinstance(window, int) and not isinstance(window, bool) and window > 0 else 0
    kinds = _kinds(case)
    if kinds is None:
        yield from _of_family(case) or (0,) * min(case.sizes.layers, 4096)
        return
    for kind in kinds:
        if kind != "linear_attention":
            yield window if kind in ("sliding_attention", "chunked_attention") else 0


def _kinds(case: Case) -> list[str] | None:
    """What each layer attends to, in the three spellings of configs: `layer_types`; MiMo's 1 for a window; MiniMax's 0 for linear attention."""
    layers = min(case.sizes.layers, 4096)
    for key, words in (("layer_types", {}), ("hybrid_layer_pattern", {1: "sliding_attention"}), ("attn_type_list", {0: "linear_attention"})):
        given = case.text_config.get(key)
        if isinstance(given, list) and len(given) == layers:
            return [words.get(v, "full_attention") if isinstance(v, int) else v if isinstance(v, str) else "full_attention" for v in given]
    return None


@per_case
def _of_family(case: Case) -> tuple[int, ...]:
    """What the family's own file reads where the config has no list: Mistral's window holds in every layer, Qwen's only where it is switched on."""
    try:
        return architecture(case.config).window
    except WeighbridgeError:
        return ()


def fitting(case: Case, settings: Settings, target: Target, memory: int) -> list[tuple[int, int]]:
    """All (TP, EP) up to 64 ranks that this reader can cut, and at which weights and cache fit `memory`. EP 1 deals no experts out."""
    good = []
    for tp in range(1, LARGEST + 1):
        if not cuts.heads_fit(case.sizes, tp):
            continue
        for d in _degrees(case, target, tp):
            faults = cuts.faults(case, d, ("attention", "mlp", "experts", "shared_experts"))
            packed = cuts.faults(case, d, ("attention", "mlp", "experts", "shared_experts"), packed=True)
            if not faults and not packed and of_rank(case, settings, target, d).total <= memory:
                good.append((tp, d.moe_ep))
    return good


def _degrees(case: Case, target: Target, tp: int) -> Iterator[cuts.Degrees]:
    experts = case.sizes.experts
    if target.runtime == "neuron":
        sizes = {"heads": case.sizes.heads, "kv_heads": case.sizes.kv_heads, "hidden": case.sizes.hidden, "vocab": case.sizes.vocab,
                 "experts": experts, "inter": case.sizes.moe_inter if experts else 0}
        if all(sizes[k] for k in ("heads", "kv_heads", "hidden", "vocab")) and not reader.tp_fits(sizes, tp):
            return
    for ep in range(1, tp + 1):
        dealt = ep == 1 or (target.runtime != "transformers" and experts
                            and (ep == tp if target.runtime == "vllm" else tp % ep == 0 and experts % ep == 0))
        if dealt:
            yield cuts.Degrees(tp, tp, 0 if target.runtime == "sglang" and ep == tp else tp, tp // ep, ep)

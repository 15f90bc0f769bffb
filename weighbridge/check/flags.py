"""Which flag of which reader says what, and how its value is read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from weighbridge.check.settings import MOST
from weighbridge.errors import Usage

LONGEST_JSON = 1_000_000  # characters on a command line
_HUMAN = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size(where: str, value: Any) -> int | None:
    """A whole number. `32k` is 32,000 and `32K` is 32,768, as vLLM reads them; `auto` and -1 say nothing."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        text = str(value) if abs(value) < 10**18 else "9" * 19
    else:
        text = value.strip() if isinstance(value, str) else ""
    if text in ("-1", "auto"):
        return None
    found = _HUMAN.fullmatch(text) if len(text) < 20 else None
    amount = float(found[1]) * _FACTORS[found[2]] if found else -1.0
    if not 0 <= amount <= MOST or not amount.is_integer():
        raise Usage(f"{value!r:.40} is not a size", where, f"give a whole number from 0 to {MOST:,}")
    return int(amount)


def number(where: str, value: Any) -> float:
    """A share from 0 to 1."""
    try:
        found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) and len(str(value)) < 40 else math.nan
    except ValueError:
        found = math.nan
    if not 0 <= found <= 1:
        raise Usage(f"{value!r:.40} is not a share from 0 to 1", where, "write 0.9")
    return found


def truth(where: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "1", "yes", "on", "false", "0", "no", "off"):
        return value.lower() in ("true", "1", "yes", "on")
    raise Usage(f"{value!r:.40} is neither true nor false", where)


def json_value(where: str, value: Any) -> Any:
    """JSON, bounded. Values that a file has given their types are taken as they are."""
    if not isinstance(value, str):
        return value
    if len(value) > LONGEST_JSON:
        raise Usage(f"{len(value):,} characters of JSON, the limit is {LONGEST_JSON:,}", where)
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise Usage(f"is not JSON: {error}", where, "quote it for the shell: '{\"key\": 1}'") from None


def word(where: str, value: Any) -> str | None:
    """A short text; `auto` says nothing."""
    if not isinstance(value, str) or len(value) > 4096:
        raise Usage(f"{value!r:.40} is not a word", where)
    return None if value.lower() in ("auto", "none", "") else value


@dataclass(frozen=True, slots=True)
class Flag:
    """`target` is a field of Settings; `neuron:KEY`; `+NAME` for what becomes one together with others; or model, file, additional."""

    target: str
    kind: str = "size"

    def read(self, where: str, value: Any) -> Any:
        return _READ[self.kind](where, value)


_READ: dict[str, Callable[[str, Any], Any]] = {"size": size, "word": word, "json": json_value, "share": number, "flag": truth}


def _flags(table: dict[str, Flag]) -> dict[str, Flag]:
    return {name: flag for names, flag in table.items() for name in names.split()}


_COMMON = {"quantization": Flag("quantization", "word"), "kv-cache-dtype": Flag("kv_cache_dtype", "word"), "dtype": Flag("dtype", "word"),
           "device": Flag("device", "word"), "trust-remote-code": Flag("trust_remote_code", "flag")}

# One name, or one name with a single dash, for each spelling; dashes and underscores are the same.
FLAGS: dict[str, dict[str, Flag]] = {
    "vllm": _flags({
        "model": Flag("model", "word"), "tensor-parallel-size -tp": Flag("tp"), "pipeline-parallel-size -pp": Flag("pp"),
        "data-parallel-size -dp": Flag("dp"), "enable-expert-parallel -ep": Flag("expert_parallel", "flag"), "max-model-len": Flag("context"),
        "max-num-seqs": Flag("batch"), "gpu-memory-utilization": Flag("+memory", "share"), "-q": Flag("quantization", "word"),
        "additional-config": Flag("additional", "json"), "override-neuron-config": Flag("override_neuron", "json"), "config": Flag("file", "word"),
        **_COMMON}),
    "sglang": _flags({
        "model-path model": Flag("model", "word"), "tp-size tp tensor-parallel-size": Flag("tp"), "pp-size pp pipeline-parallel-size": Flag("pp"),
        "dp-size dp data-parallel-size": Flag("dp"), "ep-size ep expert-parallel-size": Flag("ep"),
        "enable-ep-moe enable-deepep-moe": Flag("+ep_all", "flag"), "moe-a2a-backend": Flag("+ep_all", "word"),
        "enable-dp-attention": Flag("+attention_dp", "flag"), "context-length": Flag("context"), "max-running-requests": Flag("batch"),
        "mem-fraction-static": Flag("+memory", "share"), "config": Flag("file", "word"), **_COMMON}),
    "tensorrt-llm": _flags({
        "model": Flag("model", "word"), "tp-size tensor-parallel-size tp": Flag("tp"), "pp-size pipeline-parallel-size pp": Flag("pp"),
        "ep-size moe-expert-parallel-size ep": Flag("moe_ep"), "moe-tensor-parallel-size": Flag("moe_tp"), "max-batch-size": Flag("batch"),
        "max-seq-len": Flag("context"), "kv-cache-free-gpu-memory-fraction free-gpu-memory-fraction": Flag("+memory", "share"),
        "extra-llm-api-options config": Flag("file", "word"), **_COMMON}),
    "llama.cpp": _flags({"outtype": Flag("dtype", "word"), "outfile": Flag("+ignored", "word")}),
    "transformers": _flags({"model-name-or-path model": Flag("model", "word"), "torch-dtype dtype": Flag("dtype", "word"),
                            "trust-remote-code": Flag("trust_remote_code", "flag"), "device": Flag("device", "word")}),
    "neuron": _flags({"model-path model": Flag("model", "word"), "tensor-parallel-size -tp": Flag("tp"), "max-model-len": Flag("context"),
                      "max-num-seqs": Flag("batch"), "device": Flag("device", "word"), "trust-remote-code": Flag("trust_remote_code", "flag"),
                      "additional-config": Flag("additional", "json"), "override-neuron-config": Flag("override_neuron", "json"),
                      "neuron-config-file neuron-config": Flag("file", "word")}),
}

# NxD Inference: a flag of inference_demo is the setting with dashes (NxDI inference_demo.py `setup_run_parser`).
_NEURON_SIZES = ("tp-degree ep-degree pp-degree cp-degree moe-tp-degree moe-ep-degree attention-dp-degree batch-size ctx-batch-size tkg-batch-size "
                 "max-batch-size kv-cache-batch-size seq-len max-context-length max-length n-active-tokens n-positions logical-nc-config "
                 "start-rank-id local-ranks-size world-size quantization-per-channel-axis")
_NEURON_SWITCHES = ("quantized fused-qkv glu-mlp is-continuous-batching kv-cache-quant quantized-mlp-kernel-enabled mlp-kernel-enabled "
                    "qkv-kernel-enabled qkv-nki-kernel-enabled rmsnorm-quantize-kernel-enabled attn-block-tkg-nki-kernel-enabled "
                    "attn-block-tkg-nki-kernel-cascaded-attention attn-kernel-enabled sequence-parallel-enabled flash-decoding-enabled "
                    "enable-bucketing save-sharded-checkpoint skip-sharding early-expert-affinity-modulation vocab-parallel")
_NEURON_WORDS = ("quantized-checkpoints-path quantization-type quantization-dtype torch-dtype attention-dtype cast-type "
                 "activation-quantization-type router-act-fn router-dtype")
_NEURON_LISTS = ("quantization-block-size quantization-block-axis modules-to-not-convert context-encoding-buckets token-generation-buckets")
_NEURON_JSON = "blockwise-matmul-config router-config on-device-sampling-config"
NEURON_FLAGS: dict[str, Flag] = {
    name: Flag("neuron:" + name.replace("-", "_"), kind)
    for names, kind in ((_NEURON_SIZES, "size"), (_NEURON_SWITCHES, "flag"), (_NEURON_WORDS, "word"), (_NEURON_LISTS, "list"), (_NEURON_JSON, "json"))
    for name in names.split()}

# NxD's setting -> field of Settings. The first one that is set counts.
NEURON_FIELDS = {"tp": ("tp_degree",), "pp": ("pp_degree",), "moe_tp": ("moe_tp_degree",), "moe_ep": ("moe_ep_degree",),
                 "batch": ("tkg_batch_size", "batch_size", "max_batch_size"),
                 "context": ("seq_len", "max_length", "max_context_length", "n_positions")}


def neuron_fields(settings: dict[str, Any], place: str, sources: dict[str, str]) -> dict[str, Any]:
    """Fields of Settings from NxD's settings; where each came from is put into `sources`. Raises Usage for sizes that are none."""
    fields: dict[str, Any] = {}
    for target, keys in NEURON_FIELDS.items():
        for key in keys:
            value = settings.get(key)
            if value is None:
                continue
            where = f"{place}: {key}" if place else sources.get(f"neuron:{key}", key)
            found = size(where, value)
            if found:
                fields[target] = found
                sources[target] = where
                break
    return fields

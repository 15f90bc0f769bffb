"""Every place where a quantization config can stand: the only file that looks for one.

`quantization_config` at the top of config.json, below `text_config` (Kimi-K2.5), `compression_config` (old compressed-tensors), hf_quant_config.json
(ModelOpt), quantize_config.json (GPTQ), neuron_config.json, the `__metadata__` of safetensors files (torchao, ComfyUI).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.errors import Refused

METADATA_LIMIT = 4_000_000
# Keys that may hold a skip list. GPTQModel's `dynamic` ({"-:regex": {}}) is read apart.
LIST_KEYS = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude", "llm_int8_skip_modules")


class ClaimPlace(NamedTuple):
    """A claim as it stands. `place` is config, text, compression, hf_quant, quantize, neuron or metadata; `path` leads to it within `file`."""

    place: str
    file: str
    path: tuple[str, ...]
    claim: dict[str, Any]


def places(checkpoint: Checkpoint, *, strict: bool = False) -> list[ClaimPlace]:
    """Every claim that says something, in this order. A file that is no JSON object is passed over (WB115 names it), or refused where `strict`."""
    return [found for found in (ClaimPlace(*place) for place in _found(checkpoint, strict)) if found.claim]


def _found(checkpoint: Checkpoint, strict: bool) -> Iterator[tuple[str, str, tuple[str, ...], dict[str, Any]]]:
    config, text = checkpoint.config, _dict(checkpoint.config.get("text_config"))
    yield "config", "config.json", ("quantization_config",), _dict(config.get("quantization_config"))
    yield "text", "config.json", ("text_config", "quantization_config"), _dict(text.get("quantization_config"))
    yield "compression", "config.json", ("compression_config",), _dict(config.get("compression_config"))
    outer = _json(checkpoint, "hf_quant_config.json", strict)
    inner = _dict(outer.get("quantization"))
    producer = {"producer": outer.get("producer")} if inner and "producer" in outer else {}
    yield "hf_quant", "hf_quant_config.json", ("quantization",), {"quant_method": "modelopt", **inner, **producer} if inner else {}
    quantize = _json(checkpoint, "quantize_config.json", strict)
    yield "quantize", "quantize_config.json", (), {"quant_method": "gptq", **quantize} if quantize else {}
    neuron = checkpoint.neuron_config if checkpoint.neuron_config.get("quantized") is True else {}
    yield "neuron", "neuron_config.json", (), {**neuron, "quant_method": "neuron"} if neuron else {}
    yield from _metadata(checkpoint)


def _metadata(checkpoint: Checkpoint) -> Iterator[tuple[str, str, tuple[str, ...], dict[str, Any]]]:
    """Claims in the free metadata of the files: the first file that has one speaks for all."""
    for file, header in checkpoint.headers.items():
        comfy = header.metadata.get("_quantization_metadata", "")
        layers = _dict(_dict(_decoded(comfy)).get("layers"))
        if layers:
            formats = sorted({str(_dict(v).get("format", ""))[:40] for v in layers.values()})
            yield "metadata", file, ("__metadata__", "_quantization_metadata"), {"quant_method": "comfyui", "format": ", ".join(formats),
                                                                                 "layers": len(layers)}
            return
        for value in header.metadata.values():
            told = _dict(_decoded(value)) if value.startswith("{") and '"_type"' in value[:200] else {}
            if told:
                yield "metadata", file, ("__metadata__",), {"quant_method": "torchao", "quant_type": told.get("_type")}
                return


def _json(checkpoint: Checkpoint, file: str, strict: bool) -> dict[str, Any]:
    try:
        return checkpoint.json(file) or {}
    except Refused:
        if strict:
            raise
        return {}


def _decoded(text: str) -> Any:
    if not text or len(text) > METADATA_LIMIT:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}

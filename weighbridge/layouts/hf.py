"""Layouts under the published names of a model (`hf-…`, `ct-…`, `modelopt-…`, `gptq-…`, `awq-…`): one stored weight for each logical one.

What differs between them is the scheme of the quantized weights, which a row of `formats.schemes` names, and the configuration beside the files.
Which weights are quantized is the source's choice where it is quantized itself, else every linear layer; what a scheme cannot hold stays plain.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from weighbridge.errors import Problem, Usage
from weighbridge.formats.scheme import Encoding, Role, filled, plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Stored, turned, whole
from weighbridge.layouts.rows import cannot_hold, row
from weighbridge.models.inventory import Weight

if TYPE_CHECKING:
    from weighbridge.plan.source import Source

PLAIN = {"hf-bf16": "BF16", "hf-f16": "F16"}
_SCALE_DTYPES = {"E8M0": ("U8", "F8_E8M0")}


def encoding_of(layout: str, options: Options, scale_dtype: str = "") -> Encoding:
    """How a layout holds the weights that it quantizes; `scale_dtype` is the source's, which is kept where the layout can say it."""
    if layout in PLAIN:
        return plain(PLAIN[layout])
    own = row(layout)
    listed = [SCHEMES[name] for name in own.schemes]
    scheme = next((s for s in listed if any(f.role is Role.ZERO for f in s.factors) == options.zero_points), listed[0])
    scale = next(f for f in scheme.factors if f.role in (Role.SCALE, Role.DIVISOR))
    wanted = _dtype(options.scale_dtype, scale.dtypes) if options.scale_dtype else scale_dtype if scale_dtype in scale.dtypes else scale.dtype
    group = options.group or own.group
    return _encoding(scheme.name, options.block, group, ((scale.suffix, wanted),))


@cache
def _encoding(scheme: str, block: tuple[int, int], group: int, dtypes: tuple[tuple[str, str], ...]) -> Encoding:
    """One object for equal encodings: plans look ways up by it."""
    return filled(SCHEMES[scheme], block, group, dict(dtypes))


def _dtype(name: str, allowed: tuple[str, ...]) -> str:
    """The stored dtype that `--scale-dtype` means for a field."""
    chosen = next((d for d in _SCALE_DTYPES.get(name, (name,)) if d in allowed), None)
    if chosen is None:
        raise Usage(f"{name} is no scale dtype of this layout; it takes {', '.join(allowed)}", "--scale-dtype")
    return chosen


def stored(source: Source, layout: str, options: Options) -> list[Stored]:
    """The destination's stored weights, in the order of the inventory."""
    inventory = source.inventory
    linear = encoding_of(layout, options, source.scale_dtype)
    files = 1 + inventory.sizes.get("layers", 0)
    coded = source.coded
    out = [_one(weight, linear if _takes(weight, linear, coded) else None, files) for weight in source.weights]
    return out


def _takes(weight: Weight, linear: Encoding, coded: frozenset[str]) -> bool:
    """Whether a weight gets the layout's encoding."""
    if not linear.quantized:
        return weight.linear or weight.name in coded
    chosen = weight.name in coded if coded else weight.linear
    return chosen and not cannot_hold(linear, weight.shape)


def _one(weight: Weight, encoding: Encoding | None, files: int) -> Stored:
    stem, suffix = published_stem(weight)
    number = _layer(weight.name) + 2
    file = f"model-{min(number, files):05d}-of-{files:05d}.safetensors"
    is_turned = encoding is not None and encoding.quantized and SCHEMES[encoding.scheme].turned
    return Stored(stem, suffix, file, turned(weight) if is_turned else whole(weight), encoding)


def published_stem(weight: Weight) -> tuple[str, str]:
    """(stem, suffix) of a logical weight under its published name."""
    return (weight.published[:-7], ".weight") if weight.published.endswith(".weight") else (weight.published, "")


def _layer(name: str) -> int:
    """The layer of a logical weight, -1 for what belongs to none."""
    words = name.split(".", 2)
    return int(words[1]) if words[0] == "layers" and len(words) > 2 and words[1].isdigit() else -1


def requires(source: Source, layout: str, options: Options) -> list[Problem]:
    """What keeps a layout from holding the model at all."""
    linear = encoding_of(layout, options, source.scale_dtype)
    if not linear.quantized:
        return []
    wanted = [w for w in source.weights if (w.name in source.coded if source.coded else w.linear)]
    if wanted and not any(not cannot_hold(linear, w.shape) for w in wanted):
        return [Problem("misfit", f"no weight fits {layout}: {cannot_hold(linear, wanted[0].shape)}", wanted[0].name, "choose another --group or layout")]
    return []


__all__ = ["encoding_of", "published_stem", "requires", "stored"]

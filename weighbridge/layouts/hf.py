"""Layouts under the published names of a model (`hf-…`, `ct-…`, `modelopt-…`, `gptq-…`, `awq-…`): one stored weight for each logical one.

What differs between them is the scheme of the quantized weights, which a row of `formats.schemes` names, and the configuration beside the files.
Which weights are quantized is the source's choice where it is quantized itself, else every linear layer; what a scheme cannot hold stays plain.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import TYPE_CHECKING

from weighbridge.errors import Problem, Usage
from weighbridge.formats.scheme import Encoding, Role, filled, plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.options import Options
from weighbridge.layouts.placement import Stored, in_slices
from weighbridge.layouts.published import Candidate, published, stored_forms
from weighbridge.layouts.rows import cannot_hold, row
from weighbridge.models.inventory import Weight
from weighbridge.models.roles import layer_of

if TYPE_CHECKING:
    from weighbridge.layouts.source import Source

PLAIN = {"hf-bf16": "BF16", "hf-f16": "F16"}
_SCALE_DTYPES = {"E8M0": ("U8", "F8_E8M0")}


def encoding_of(layout: str, options: Options, scale_dtype: str = "") -> Encoding:
    """How a layout holds the weights that it quantizes; `scale_dtype` is the source's, which is kept where the layout can say it."""
    return plain(PLAIN[layout]) if layout in PLAIN else _with_sizes(_schemes(layout, options)[0], layout, options, scale_dtype)


def _schemes(layout: str, options: Options) -> list[Scheme]:
    """The schemes of a layout in the order of choice."""
    listed = [SCHEMES[name] for name in row(layout).schemes]
    return sorted(listed, key=lambda s: any(f.role is Role.ZERO for f in s.factors) != options.zero_points)


def _said(schemes: list[Scheme], options: Options) -> list[Scheme]:
    """The schemes that can store the scale dtype that is asked for; the first alone where none can, so that it says what it takes."""
    wanted = _SCALE_DTYPES.get(options.scale_dtype, (options.scale_dtype,))
    can = [s for s in schemes if not options.scale_dtype or set(wanted) & {d for f in s.factors if f.role in (Role.SCALE, Role.DIVISOR) for d in f.dtypes}]
    return can or schemes[:1]


def _with_sizes(scheme: Scheme, layout: str, options: Options, scale_dtype: str) -> Encoding:
    scale = next(f for f in scheme.factors if f.role in (Role.SCALE, Role.DIVISOR))
    wanted = _dtype(options.scale_dtype, scale.dtypes) if options.scale_dtype else scale_dtype if scale_dtype in scale.dtypes else scale.dtype
    return _encoding(scheme.name, options.block, options.group or row(layout).group, ((scale.suffix, wanted),))


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
    return _Chooser(source, layout, options).stored()


class _Chooser:
    """Chooses for each weight the form and the encoding in which a layout holds it."""

    def __init__(self, source: Source, layout: str, options: Options) -> None:
        self.source, self.layout, self.options = source, layout, options
        self.inventory, self.coded = source.inventory, source.to_code
        self.files = 1 + self.inventory.sizes.get("layers", 0)
        # A family whose files say `.scale` keeps that spelling.
        own = {b.encoding.scheme for b in source.bound}
        listed = [] if layout in PLAIN else [_with_sizes(s, layout, options, source.scale_dtype) for s in _said(_schemes(layout, options), options)]
        self.encodings = sorted(listed, key=lambda e: e.scheme not in own or e.element != listed[0].element)

    def stored(self) -> list[Stored]:
        here = {name for name in self.inventory.optional if name in self.source.holders}
        return [self._one(candidate) for candidate in published(self.inventory, here)]

    def _one(self, main: Candidate) -> Stored:
        first = self.inventory[main.placement.parts[0].weight]
        if self.layout in PLAIN:
            return self._made(main, plain(PLAIN[self.layout]) if first.linear or first.name in self.coded else None, first)
        if first.name in self.coded if self.coded else first.linear:
            why = ""
            for encoding in self.encodings:
                for candidate in (main,) if _spelled_so(main, encoding) else self.forms.get(first.name, ()):
                    if _spelled_so(candidate, encoding):
                        found = self._made(candidate, encoding, first)
                        own = misfit(found)
                        if not own:
                            return found
                        why = why or own
            return self._made(main, None, first)._replace(why_plain=why or f"{self.encodings[0].scheme} has no name for {main.stem.rpartition('.')[2]}")
        return self._made(main, None, first)

    @cached_property
    def forms(self) -> dict[str, tuple[Candidate, ...]]:
        """All forms of each weight, for those whose main form a scheme cannot spell."""
        return stored_forms(self.inventory) if self.inventory.forms else {}

    def _made(self, candidate: Candidate, encoding: Encoding | None, first: Weight) -> Stored:
        number = layer_of(first.name) + 2
        file = f"model-{min(number, self.files):05d}-of-{self.files:05d}.safetensors"
        placement, joined = candidate.placement, False
        if encoding is not None and encoding.quantized:
            if SCHEMES[encoding.scheme].turned:
                placement = placement.swap()
            high = encoding.block[0] if encoding.block else 1
            if not placement.stacked and len(placement.parts) > 1 and any(part.at_row % (high or 1) for part in placement.parts):
                sliced = in_slices(placement, len(placement.parts)) if placement.rows % len(placement.parts) == 0 else None
                placement, joined = (sliced, True) if sliced is not None else (placement, False)
        return Stored(candidate.stem, candidate.suffix, file, placement, encoding, dims=first.dims, joined=joined)


def _spelled_so(candidate: Candidate, encoding: Encoding) -> bool:
    """Whether a scheme's names can be made from a form's: those of stacks have no `.weight`."""
    suffix = encoding.code.suffix
    return suffix.startswith(".") if candidate.suffix == ".weight" else suffix == candidate.suffix


def misfit(made: Stored) -> str:
    """Why a stored tensor cannot be in its encoding, with the two numbers; empty where it can."""
    assert made.encoding is not None
    shape = made.shape[::-1] if SCHEMES[made.encoding.scheme].turned else made.shape[-2:] if made.joined else made.shape
    return cannot_hold(made.encoding, shape) or _over_two_weights(made)


def _over_two_weights(made: Stored) -> str:
    """Why the blocks of a tensor that holds several weights cannot be made: one would lie over two of them."""
    assert made.encoding is not None
    for axis, size in enumerate(made.encoding.block or (1, 1)):
        for part in made.placement.parts:
            at = part.at_row if axis == 0 else part.at_col
            if size and at % size:
                return f"{part.weight} begins at {'row' if axis == 0 else 'column'} {at}, a block has {size}"
    return ""


def requires(source: Source, layout: str, options: Options) -> list[Problem]:
    """What keeps a layout from holding the model at all."""
    if layout in PLAIN:
        return []
    chooser = _Chooser(source, layout, options)
    wanted = [w for w in source.weights if (w.name in source.to_code if source.to_code else w.linear)]
    if not wanted or any(s.encoding is not None and s.encoding.quantized for s in chooser.stored()):
        return []
    why = cannot_hold(chooser.encodings[0], wanted[0].shape) or f"its tensors are not spelled as {chooser.encodings[0].scheme} spells them"
    return [Problem("misfit", f"no weight fits {layout}: {why}", wanted[0].published or wanted[0].name, "choose another --block, --group or layout")]


__all__ = ["encoding_of", "misfit", "requires", "stored"]

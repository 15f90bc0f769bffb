"""A page for each row of the table of schemes: its tensors, how codes are packed, what a value is, who writes and reads it, where it goes exactly."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from weighbridge.check.pages import SCHEMA
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import BLOCK, GROUP, WHOLE, Encoding, Field, Form, Role, Scheme, filled, plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.formats.window import places

SHAPE = (1536, 3072)  # [out, in]: gate of one expert of MiniMax-M2, for sizes
EXPERTS = 8  # of a tensor that holds several
SIZES = (128, 128), 128  # block and group, where the configuration says them
SHOWN = 6  # weights of the example
ORDER = (Role.CODE, Role.ZERO, Role.SCALE, Role.DIVISOR)


def document(name: str) -> dict[str, Any]:
    """Everything about a scheme. Its example is decoded by `formats` from the bytes of `example`."""
    scheme = SCHEMES[name]
    encoding = filled(scheme, *SIZES)
    shape = _stored_shape(scheme)
    fields = [_field(field, raw, outer, shape) for field, raw, outer in _pairs(encoding, scheme)]
    size = sum(f["bytes"] for f in fields if f["weighs"])
    return {
        "schema": SCHEMA, "what": name, "kind": "scheme", "says": scheme.says, "methods": list(scheme.methods), "strategy": scheme.strategy,
        "turned": scheme.turned, "layout": scheme.layout or None, "element": scheme.code.element, "shape": list(shape), "fields": fields,
        "bytes": size, "bits_per_value": size * 8 / prod(shape), "bf16_bytes": prod(shape) * 2, "formula": formula(scheme),
        "packings": [_packing(f) for f in encoding.stored_fields if f.packing.packed and f.weighs], "example": _example(scheme),
        "rule": scheme.rule or None, "readers": _readers(name), "exact": exact(name),
        "see_also": _see_also(scheme), "references": "weighbridge/formats/schemes.py and weighbridge/layouts/rows.py name the code that was read for each row.",
    }


def listing() -> list[dict[str, Any]]:
    """A row for each scheme."""
    return [{"name": s.name, "says": s.says, "element": s.code.element, "strategy": s.strategy, "methods": list(s.methods), "layout": s.layout or None}
            for s in SCHEMES.values()]


def _stored_shape(scheme: Scheme) -> tuple[int, ...]:
    """The example's shape in values, in stored axes."""
    sizes = SHAPE[::-1] if scheme.turned else SHAPE
    return sizes if scheme.code.suffix.startswith(".") else (EXPERTS, *sizes)


def _pairs(encoding: Encoding, scheme: Scheme) -> Iterator[tuple[Field, Field, Field | None]]:
    """Each field with its sizes, as the row has it, and the field that it scales."""
    for field, raw in zip(encoding.fields, scheme.fields, strict=True):
        yield field, raw, None
        for part, raw_part in zip(field.inner, raw.inner, strict=True):
            yield part, raw_part, field


def _field(field: Field, raw: Field, outer: Field | None, shape: tuple[int, ...]) -> dict[str, Any]:
    counted = shape if outer is None else (*shape[:-2], *outer.grid(shape[-2], shape[-1]))
    text = field.role in (Role.OFFSET, Role.NOTE)
    stored = () if text else field.shapes(counted)[0]
    return {"role": field.role.value, "suffixes": list(field.suffixes), "dtypes": list(raw.dtypes), "element": "" if raw.role is Role.NOTE else raw.element or "by the dtype",
            "of": outer.suffix if outer else None, "block": block_words(raw), "shape": None if text else list(stored),
            "bytes": 0 if text else prod(stored) * _item(field), "optional": field.optional, "weighs": field.weighs and field.role is not Role.ORDER,
            "over": field.over if field.over != 1.0 else None}


def _item(field: Field) -> int:
    from weighbridge.checkpoint.dtypes import BITS

    return BITS[field.dtype] // 8


def block_words(field: Field) -> str:
    """What shares one value of a field."""
    if field.role is Role.CODE:
        return "each value"
    if field.role in (Role.NOTE, Role.SHAPE):
        return "the weight"
    if field.flat:
        return f"{field.block[1]} values in a row"
    words = {WHOLE: "all", BLOCK: "block", GROUP: "group"}
    high, wide = (words.get(size, str(size)) for size in field.block)
    return {("all", "all"): "the whole tensor", ("1", "all"): "a row", ("all", "1"): "a column"}.get((high, wide), f"{high} x {wide}")


def formula(scheme: Scheme) -> str:
    """`value = (code - qzeros) x scales`."""
    def named(field: Field) -> str:
        name = field.suffix.rpartition(".")[2] or "scale"
        name = f"{name} / {field.over:g}" if field.over != 1.0 else name
        for part in field.inner:
            word = part.element if part.role is Role.OFFSET else part.suffix.rpartition(".")[2]
            name += f" {'/' if part.role is Role.DIVISOR else '+' if part.role is Role.OFFSET else 'x'} {word}"
        return f"({name})" if " " in name else name

    code = f"{scheme.code.element}(code)"
    for field in sorted((f for f in scheme.factors if f.role in ORDER), key=lambda f: ORDER.index(f.role)):
        code = f"({code} - {named(field)})" if field.role is Role.ZERO else f"{code} {'/' if field.role is Role.DIVISOR else 'x'} {named(field)}"
    return f"value = {code}"


def _packing(field: Field) -> dict[str, Any]:
    """One unit: for each of its values, the stored elements and bits in which it lies."""
    packing = field.packing
    count = packing.values
    shape = (1, count) if packing.axis == -1 else (count, 1)
    at = [(0, i) if packing.axis == -1 else (i, 0) for i in range(count)]
    return {"suffix": field.suffix, "values": count, "words": packing.size // packing.word, "word": 8 * packing.word, "width": packing.width,
            "axis": "rows" if packing.axis == -2 else "columns", "starts": list(packing.starts),
            "places": [[{"word": p.index, "bits": [p.low, p.high]} for p in places(field._replace(flat=False), shape, *place)] for place in at]}


def _example(scheme: Scheme) -> dict[str, Any]:
    """A few weights of a small matrix, from bits to value."""
    from weighbridge.lessons import example as made
    from weighbridge.lessons.tensor_block import choose, work
    from weighbridge.lessons.tensor_codes import Pass

    matrix, fields = made.example(scheme)
    seen = Pass(matrix)
    block = work(seen, choose(seen, (matrix.block[0] if matrix.block[0] < matrix.rows else 0, 5)))
    keep = ("row", "column", "stored", "place")
    return {"shape": list(made.SHAPE), "block": list(matrix.block), "bytes": {suffix: len(raw) for suffix, raw in fields.items()}, "scale": block["scale"],
            "zero": block["zero"], "steps": block["steps"], "weights": [{key: w[key] for key in keep} for w in block["weights"][:SHOWN]]}


def _readers(name: str) -> list[dict[str, Any]]:
    """What is known of readers of the layouts that hold this scheme."""
    from weighbridge.layouts.rows import ROWS

    return [{"layout": row.name, "reader": known.reader, "loads": known.loads, "condition": known.condition, "source": known.source}
            for row in ROWS.values() if name in row.schemes for known in row.readers]


class _Facts:
    """What is taken for granted of scales and zero points: the best that can be, or the worst."""

    def __init__(self, good: bool) -> None:
        self.good = good

    def powers(self) -> bool:
        return self.good

    def spread(self, block: tuple[int, int]) -> int:
        return 0 if self.good else 1 << 10

    def zeros_are(self, value: int) -> bool:
        return self.good

    def zeros_wrap(self) -> bool:
        return False


def exact(name: str) -> list[dict[str, Any]]:
    """Where its values go without a change: {to, step, says, always}; by the same function that plans ask.

    Not `always`: only where its scales are powers of two near each other, or its zero points are the middle of their range.
    """
    from weighbridge.layouts.options import Options
    from weighbridge.lessons.example import encoding_of
    from weighbridge.plan.steps import Refusal, choose

    source = encoding_of(SCHEMES[name], *SIZES)
    targets = [("hf-bf16", plain("BF16")), ("hf-f16", plain("F16"))]
    targets += [(s.name, encoding_of(s, *SIZES)) for s in SCHEMES.values() if s.layout and s.name != name]
    found = []
    for to, target in targets:
        nested = _nested(source, target)
        ways = [choose(source, target, Options(), nested, False, _Facts(good)) for good in (False, True)]
        good = [way for way in ways if not isinstance(way, Refusal) and not way.lossy]
        if good:
            found.append({"to": to, "layout": SCHEMES[to].layout if to in SCHEMES else to, "step": good[0].name, "says": good[0].says, "always": len(good) == 2})
    return found


def _nested(source: Encoding, target: Encoding) -> bool:
    """Whether every block of the target lies in one block of the source."""
    if source.block is None or target.block is None or any(f.flat for f in source.factors):
        return False
    return all(not one or (two and one % two == 0) for one, two in zip(source.block, target.block, strict=True))


def _see_also(scheme: Scheme) -> list[str]:
    element = scheme.code.element
    like = [s.name for s in SCHEMES.values() if s.name != scheme.name and s.code.element == element and s.strategy == scheme.strategy][:3]
    return list(dict.fromkeys([page_of(element), *like, "formats"]))


def page_of(element: str) -> str:
    """The word under which an element has its page."""
    return "fp4-book" if element == "fp4" else element


__all__ = ["ELEMENTS", "Form", "document", "exact", "formula", "listing", "page_of"]

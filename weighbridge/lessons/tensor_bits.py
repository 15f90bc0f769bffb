"""From bits to a value, written out: a code's fields, the word that it lies in, and the steps by which stored scales become one factor."""

from __future__ import annotations

from typing import Any

import numpy as np

from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import Role
from weighbridge.lessons.tensor_read import Form, Matrix, Part

SIGNS = {Role.SCALE: "x", Role.DIVISOR: "/", Role.OFFSET: "+", Role.ZERO: "-"}


def fields(form: Form, bits: int) -> list[str]:
    """Sign, exponent and mantissa as bits, from the highest bit down; all bits in one of integers and codebooks."""
    width = sum(form.fields)
    text, out, start = f"{bits:0{width}b}", [], 0
    for size in form.fields:
        out.append(text[start : start + size])
        start += size
    return out


def formula(form: Form, bits: int, value: float) -> str:
    """How the value follows from the bits, written out."""
    kind = ELEMENTS[form.fmt].kind
    if kind == "int":
        return f"two's complement of {bits} = {value:g}"
    if kind == "book":
        return f"entry {bits} of {form.fmt} = {value:.9g}"
    if kind == "offset":
        return f"{bits} {'-' if form.bias > 0 else '+'} {abs(form.bias)} = {value:g}" if form.bias else f"{bits} = {value:g}"
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "infinity with its sign"
    sign, exponent, mantissa = fields(form, bits)
    minus, power, part = "-" if sign == "1" else "", int(exponent, 2), int(mantissa, 2)
    if power:
        return f"{minus}2^({power}-{form.bias}) x (1 + {part}/{1 << form.fields[2]}) = {value:.9g}"
    return f"{minus}2^({1 - form.bias}) x {part}/{1 << form.fields[2]} = {value:.9g}"


def packed(matrix: Matrix, row: int, col: int) -> list[dict[str, Any]]:
    """Where the code of a weight lies: [{word, index, hex, bits}], two of them where a code runs on in the next word; empty for codes of whole bytes.

    `index` is [row, column] among the stored elements of its matrix (a number where they have one axis), `bits` the first and the last bit.
    """
    found = matrix.place(row, col)
    if found is None:
        return []
    (wide, _), parts = found
    out = []
    for place, word in parts:
        index = [*divmod(place.index, wide)] if wide else [place.index]
        out.append({"word": place.word * 8, "index": index, "hex": f"0x{word:0{2 * place.word}X}", "bits": [place.low, place.high]})
    return out


def steps(matrix: Matrix, row: int, col: int) -> list[dict[str, Any]]:
    """What is done with the codes of the block of a weight, each factor with what scales it again.

    {role, sign, name, stored, value, steps, result}: `steps` are the inner factors in their order, `result` is the factor that the codes meet.
    """
    return [_step(matrix, chain) for chain in sorted(matrix.parts(row, col), key=lambda chain: chain[0].field.role is not Role.ZERO)]


def _step(matrix: Matrix, chain: list[Part]) -> dict[str, Any]:
    first, *inner = chain
    value = np.float32(first.value)
    with np.errstate(all="ignore"):
        for part in inner:
            other = np.float32(part.value)
            value = value / other if part.field.role is Role.DIVISOR else value + other if part.field.role is Role.OFFSET else value * other
    return {**_part(first), "over": first.field.over if first.field.over != 1.0 else None, "steps": [_part(part) for part in inner], "result": float(value)}


def _part(part: Part) -> dict[str, Any]:
    return {"role": part.field.role.value, "sign": SIGNS[part.field.role], "name": part.tensor.name, "dtype": part.tensor.dtype, "element": part.field.element,
            "stored": part.stored, "value": part.value}

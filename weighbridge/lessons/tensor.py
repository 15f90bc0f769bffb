"""`explain SRC TENSOR`: one weight worked by hand from its bytes, as a document. Every number comes from the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weighbridge.check.pages import SCHEMA
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import Form, Role
from weighbridge.formats.schemes import SCHEMES
from weighbridge.lessons.tensor_source import Found, locate

if TYPE_CHECKING:
    from weighbridge.lessons.tensor_read import Matrix



def document(checkpoint: Checkpoint, name: str, *, to: str = "neuron", block: tuple[int, int] | None = None,
             at: tuple[int, int] | None = None) -> dict[str, Any]:
    """The weight that `name` stands for (a stored name, a module, a name of the layout `to`), by hand.

    `block` is the block of its scale where the config does not say; `at` is the row and column of a
    weight: its block is worked.
    Raises WeighbridgeError for an unknown name, and for codes that are not decoded. Bad scales and damaged codes do not raise: they are told.
    """
    from weighbridge.lessons.tensor_block import choose, work
    from weighbridge.lessons.tensor_codes import Pass
    from weighbridge.lessons.tensor_facts import codes, conventions, costs, exponents, maps, scales
    from weighbridge.lessons.tensor_read import Matrix

    found = locate(checkpoint, name, to, block)
    matrix = Matrix(checkpoint, found)
    told = {"schema": SCHEMA, "what": "tensor", "asked": name, "source": checkpoint.label, "tensor": _tensor(found, matrix), "scale": _scale(found, matrix),
            "scheme": _scheme(found), "format": _format(matrix), "stands_for": _stands_for(found, to), "problem": matrix.problem}
    seen = Pass(matrix)
    told["looked_at"] = _looked(matrix)
    coded = not matrix.plain
    told["codes"] = codes(seen) if coded else None
    told["exponents"] = None if coded else exponents(seen)
    told["scales"] = scales(seen) if matrix.scaled else None
    told["block"] = work(seen, choose(seen, at)) if matrix.looked else None
    told["conventions"] = conventions(seen, halved(checkpoint, found)) if coded else None
    told["costs"] = costs(seen) if matrix.scaled or not coded else []
    told["maps"] = maps(seen, told["block"] and told["block"]["at"]) if matrix.scaled and matrix.looked else {}
    return told


def halved(checkpoint: Checkpoint, found: Found) -> bool:
    """Whether the manifest says that these codes were halved on the way here. Attention was not, but in its exact form."""
    stated = checkpoint.manifest.get("options")
    options = stated if isinstance(stated, dict) else {}
    return options.get("scale_rule") == "halve" and found.neuron and (".mlp_op." in found.key or options.get("attention") == "exact")


def _tensor(found: Found, matrix: Matrix) -> dict[str, Any]:
    weight = found.weight
    return {"name": found.key, "file": weight.file, "dtype": weight.dtype, "shape": list(weight.shape), "axes": _axes(found), "bytes": weight.nbytes,
            "first_byte": weight.start, "role": found.role, "matrices": matrix.lead, "rows": matrix.rows, "columns": matrix.cols, "packing": _packing(found), "turned": found.encoding.scheme in SCHEMES and SCHEMES[found.encoding.scheme].turned}


def _packing(found: Found) -> dict[str, Any] | None:
    """How many codes lie in how many stored elements, along which axis, and where the bits of each begin."""
    packing = found.encoding.code.packing
    if not packing.packed:
        return None
    return {"values": packing.values, "words": packing.size // packing.word, "word": 8 * packing.word, "width": packing.width,
            "axis": "rows" if packing.axis == -2 else "columns", "starts": list(packing.starts)}


def _axes(found: Found) -> list[str]:
    """What the stored axes are, where the name and the scheme tell."""
    rank, role, code = len(found.weight.shape), found.role, found.encoding.code
    turned = found.encoding.scheme in SCHEMES and SCHEMES[found.encoding.scheme].turned
    if code.flat:
        return ["bytes of all values in a row", "1"][:rank]
    if rank == 2:
        first = "vocabulary" if role in ("embedding", "lm_head") else "out"
        names = ["in", "out"] if turned else [first, "hidden" if role == "embedding" else "in"]
        return [f"packed {name}" if code.packing.packed and place - 2 == code.packing.axis else name for place, name in enumerate(names)]
    if rank == 3 and ".mlp_op." in found.key:
        return ["expert", "in", "out"]
    if Form.SIXTEENS in code.forms and rank == 4:
        return ["expert", "out", "groups of in", "bytes of a group"]
    return {0: [], 1: ["values"]}.get(rank, ["stack"] * (rank - 2) + ["rows", "columns"])


def _scale(found: Found, matrix: Matrix) -> dict[str, Any] | None:
    scale, field = found.scale, found.encoding.scale
    if scale is None:
        return None
    made = {"name": scale.name, "file": scale.file, "dtype": scale.dtype, "shape": list(scale.shape), "bytes": scale.nbytes,
            "strategy": found.encoding.strategy_of(found.shape), "block": list(matrix.block), "grid": [matrix.lead, matrix.grid_rows, matrix.grid_cols],
            "says": found.says, "second": None, "padded": found.slots is not None, "element": field.element if field else None,
            "over": field.over if field and field.over != 1.0 else None, "run": field.block[1] if field and field.flat else None}
    if field is None or not matrix.scaled:
        return made
    zero = found.encoding.zero
    inner = next((f for f in field.inner if f.role in (Role.SCALE, Role.DIVISOR) and found.tensor(f) is not None), None)
    held = found.tensor(inner) if inner else None
    if inner is not None and held is not None and matrix.values:
        part = matrix.parts(found.corner[0] * matrix.rows, 0)[0][1]
        made["second"] = {"name": held.name, "dtype": held.dtype, "operation": "/" if inner.role is Role.DIVISOR else "x", "value": part.value,
                          "one": inner.block == (0, 0)}
    below = found.tensor(zero) if zero else None
    made["zero"] = None if zero is None or below is None else {"name": below.name, "dtype": below.dtype, "shape": list(below.shape), "element": zero.element}
    made["order"] = matrix.order is not None
    return made


def _scheme(found: Found) -> dict[str, Any] | None:
    """The row of the table of schemes that it follows."""
    scheme = SCHEMES.get(found.encoding.scheme)
    return None if scheme is None else {"name": scheme.name, "says": scheme.says, "describe": found.encoding.describe(found.shape), "layout": scheme.layout or None}


def _format(matrix: Matrix) -> dict[str, Any]:
    form = matrix.form
    low, high = form.ends if form.table is not None else (-form.max, form.max)
    return {"name": form.fmt, "fields": list(form.fields), "bias": form.bias, "max": form.max, "kind": ELEMENTS[form.fmt].kind, "ends": [low, high]}


def _stands_for(found: Found, to: str) -> dict[str, Any] | None:
    """How a name of the destination, or a logical one, led here."""
    if not found.way:
        return None
    return {"layout": to, "weight": found.way, "corner": list(found.corner), "others": len(found.also), "next": list(found.also[:3])}


def _looked(matrix: Matrix) -> dict[str, Any]:
    return {"values": matrix.looked, "of": matrix.values, "places": len(matrix.runs), "rows": sum(n for _, n in matrix.runs), "of_rows": matrix.lead * matrix.rows,
            "local": matrix.near}

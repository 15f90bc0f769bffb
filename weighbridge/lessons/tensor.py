"""`explain SRC TENSOR`: one weight worked by hand from its bytes, as a document. Every number comes from the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weighbridge.check.pages import SCHEMA
from weighbridge.checkpoint.checkpoint import Checkpoint
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
            "format": _format(matrix), "stands_for": _stands_for(found, to), "problem": matrix.problem}
    seen = Pass(matrix)
    told["looked_at"] = _looked(matrix)
    coded = matrix.form.table is not None
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
            "first_byte": weight.start, "role": found.role, "matrices": matrix.lead, "rows": matrix.rows, "columns": matrix.cols, "packing": found.packing or None}


def _axes(found: Found) -> list[str]:
    """What the stored axes are, where the name tells."""
    rank, role = len(found.weight.shape), found.role
    if rank == 2 and not found.packing:
        return ["vocabulary", "hidden"] if role == "embedding" else ["vocabulary", "in"] if role == "lm_head" else ["out", "in"]
    if rank == 3 and ".mlp_op." in found.key:
        return ["expert", "in", "out"]
    if found.suffix == "_blocks" and rank == 4:
        return ["expert", "out", "groups of in", "bytes of a group"]
    return {0: [], 1: ["values"], 2: ["out", "packed in"]}.get(rank, ["stack"] * (rank - 2) + ["rows", "columns"])


def _scale(found: Found, matrix: Matrix) -> dict[str, Any] | None:
    scale, second = found.scale, found.second
    if scale is None:
        return None
    held = None
    if second is not None:
        held = {"name": second.name, "dtype": second.dtype, "operation": matrix.operation,
                "value": None if matrix.second is None else float(matrix.second[found.corner[0] if matrix.second.size > 1 else 0])}
    return {"name": scale.name, "file": scale.file, "dtype": scale.dtype, "shape": list(scale.shape), "bytes": scale.nbytes, "strategy": found.kind.strategy,
            "block": list(matrix.block), "grid": [matrix.lead, matrix.grid_rows, matrix.grid_cols], "says": found.says, "second": held,
            "padded": matrix.slots is not None}


def _format(matrix: Matrix) -> dict[str, Any]:
    form = matrix.form
    return {"name": form.fmt, "fields": list(form.fields), "bias": form.bias, "max": form.max}


def _stands_for(found: Found, to: str) -> dict[str, Any] | None:
    """How a name of the destination, or a logical one, led here."""
    if not found.way:
        return None
    return {"layout": to, "weight": found.way, "corner": list(found.corner), "others": len(found.also), "next": list(found.also[:3])}


def _looked(matrix: Matrix) -> dict[str, Any]:
    return {"values": matrix.looked, "of": matrix.values, "places": len(matrix.runs), "rows": sum(n for _, n in matrix.runs), "of_rows": matrix.lead * matrix.rows,
            "local": matrix.near}

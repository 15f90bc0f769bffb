"""Weights in a form that no verb reads values from: named once for each form, in the place of what their names seem to be.

A packed INT4 weight lies under `weight_packed`, so a layout of FP8 or BF16 finds it missing and its scale surplus. Neither is true:
the weight is here, in a form that `inspect` knows and this part of the house does not.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from math import prod

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.encoding.kinds import kind_of
from weighbridge.encoding.scheme import FLOATS, is_code
from weighbridge.errors import Problem
from weighbridge.inspection.claims import read_claims
from weighbridge.inspection.encodings import Kind
from weighbridge.inspection.survey import Survey

# What a weight in an unread form looks like to a layout that does not know the form.
SEEMING = frozenset({"missing-tensor", "weight-without-scale", "encoding", "shape", "scale-shape", "scale-dtype", "scale-beside-float",
                     "surplus-tensor", "scale-without-weight", "no-block-size"})
READ = ("convert, verify, trace and run read F32, BF16 and F16, and F8_E4M3 with one F32 or BF16 scale for each block "
        "(weight_scale_inv, or scale in the layouts of NxD)")
STRATEGIES = {"tensor": "one scale for each tensor", "channel": "one scale for each row", "group": "one scale for each group",
              "block": "one scale for each block"}


def truly(checkpoint: Checkpoint, problems: list[Problem], bound: Container[str]) -> list[Problem]:
    """`problems` of a layout, where those that only follow from a form that is not read are replaced by the form's name.

    `bound`: names of the weights that the layout could read.
    """
    if not any(p.code in SEEMING for p in problems):
        return problems
    forms: dict[str, list[Tensor]] = {}
    stems: set[str] = set()
    stacks: set[str] = set()
    claims = read_claims(checkpoint)
    by_method = f" ({claims.method[:40]})" if claims.method else ""
    refused = {_name(p) for p in problems}
    for name, tensor, scale, suffix, key, pair in Survey(checkpoint, claims, keep=True).weights or ():
        form = "" if name in bound else _form(tensor, scale, suffix, pair.kind, name in refused)
        if form:
            forms.setdefault(form + (by_method if scale is not None else ""), []).append(tensor)
            stem = name.removesuffix(key.suffix) if key.suffix else name
            stems.add(stem)
            if len(tensor.shape) > 2:
                stacks.add(stem.rpartition(".")[0] + ".")
    if not forms:
        return problems
    kept = [p for p in problems if p.code not in SEEMING or not _follows(p, stems, stacks)]
    return kept + [_problem(form, tensors) for form, tensors in forms.items()]


def _form(tensor: Tensor, scale: Tensor | None, suffix: str, kind: Kind, refused: bool) -> str:
    """The name of the form, or nothing where the layout's own words about the weight are true."""
    if scale is None:
        coded = tensor.dtype not in FLOATS and not is_code(tensor.dtype)
        return f"{tensor.dtype}, with no scale beside them" if coded and refused else ""
    if not kind.quantized or (kind.problem and suffix in (".weight_scale_inv", ".scale")):
        return ""
    codes = max(1, kind.parameters // max(1, prod(tensor.shape)))
    word = kind_of(tensor.dtype, True, codes)
    if word == "fp4":
        known = {"F8_E4M3": "NVFP4", "U8": "MXFP4", "F8_E8M0": "MXFP4"}.get(scale.dtype, "")
        return known or ("4-bit codes" if suffix.endswith("absmax") else "packed FP4")
    if word in ("int4", "int8"):
        return "INT8" if word == "int8" and codes == 1 else f"packed INT{32 // codes}"
    return f"{tensor.dtype} with {STRATEGIES.get(kind.strategy, 'scales')} ({scale.dtype} {suffix.rpartition('.')[2]})"


def _name(problem: Problem) -> str:
    return problem.where.rpartition(": ")[2]


def _follows(problem: Problem, stems: set[str], stacks: set[str]) -> bool:
    """Whether a problem is of a weight in an unread form, or of a tensor that belongs to one."""
    name = _name(problem)
    if problem.code == "no-block-size" or name in stems or name.rpartition("_")[0] in stems:
        return True
    if problem.code == "missing-tensor" and any(name.startswith(stack) for stack in _parents(name, stacks)):
        return True
    return any(parent[:-1] in stems for parent in _parents(name))


def _parents(name: str, among: Container[str] | None = None) -> Iterable[str]:
    """`a.b.c` -> `a.b.`, `a.`; those that are in `among`."""
    while "." in name:
        name = name.rpartition(".")[0]
        if among is None or name + "." in among:
            yield name + "."


def _problem(form: str, tensors: list[Tensor]) -> Problem:
    first = tensors[0]
    are = "weight is" if len(tensors) == 1 else "weights are"
    return Problem("scheme", f"{len(tensors):,} {are} stored as {form}: inspect and check know this form, no verb reads its values yet",
                   f"{first.file}: {first.name}", READ)

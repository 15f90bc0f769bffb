"""Weights in a form that no verb reads values from: named once for each form, in the place of what their names seem to be.

A packed INT4 weight lies under `weight_packed`, so a layout of FP8 or BF16 finds it missing and its scale surplus. Neither is true:
the weight is here, in a form that `inspect` knows and this part of the house does not.
"""

from __future__ import annotations

from collections.abc import Container
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
# By the suffix of the scale, what the layouts of this house hold: such a weight has another fault, and its own words.
OWN = {".weight_scale_inv": ("block", "group"), ".scale": ("block", "group", "channel")}
WITHOUT = " without a scale"
SURPLUS = frozenset({"surplus-tensor", "scale-without-weight"})
READ = ("what they read is F32, BF16 and F16, and F8_E4M3 with one F32 or BF16 scale for each block "
        "(weight_scale_inv, or scale in the layouts of NxD)")
STRATEGIES = {"tensor": "one scale for each tensor", "channel": "one scale for each row", "group": "one scale for each group",
              "block": "one scale for each block"}


def truly(checkpoint: Checkpoint, problems: list[Problem], bound: Container[str]) -> list[Problem]:
    """`problems` of a layout, where those that only follow from a form that is not read are replaced by the form's name.

    `bound`: names of the weights that the layout could read. What no weight of the model asks for stays surplus, whatever its form.
    """
    asked = {stem for p in problems if p.code in SEEMING - SURPLUS for stem in _stems(_name(p))}
    if not asked:
        return problems
    forms: dict[str, list[Tensor]] = {}
    stems: set[str] = set()
    stacks: set[str] = set()
    claims = read_claims(checkpoint)
    by_method = f" ({claims.method[:40]})" if claims.method else ""
    for name, tensor, scale, suffix, key, pair in Survey(checkpoint, claims, keep=True).weights or ():
        stem = name.removesuffix(key.suffix) if key.suffix else name
        parent = stem.rpartition(".")[0]
        stack = len(tensor.shape) > 2 and parent in asked
        if name in bound or not (stem in asked or stack):
            continue
        form = _form(tensor, scale, suffix, pair.kind)
        if form:
            forms.setdefault(form + (by_method if scale is not None else ""), []).append(tensor)
            stems.add(stem)
            if stack:
                stacks.add(parent)
    if not forms:
        return problems
    kept = [p for p in problems if p.code not in SEEMING or not _follows(p, stems, stacks)]
    return kept + [_problem(form, tensors) for form, tensors in forms.items()]


def _form(tensor: Tensor, scale: Tensor | None, suffix: str, kind: Kind) -> str:
    """The name of the form, or nothing where the layout's own words about the weight are true."""
    if scale is None:
        return f"{tensor.dtype}{WITHOUT}" if tensor.dtype not in FLOATS and not is_code(tensor.dtype) else ""
    if not kind.quantized:
        return ""
    if tensor.dtype == "F8_E4M3" and suffix in OWN and (kind.problem or kind.strategy in OWN[suffix]):
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


def _stems(name: str) -> set[str]:
    """The modules that a name may belong to: `a.b.weight` and `a.b_bias` to `a.b`, and all above."""
    found = {name, name.rpartition("_")[0]}
    while "." in name:
        name = name.rpartition(".")[0]
        found.add(name)
    return found


def _follows(problem: Problem, stems: set[str], stacks: set[str]) -> bool:
    """Whether a problem is of a weight in an unread form, or of a tensor that belongs to one."""
    above = _stems(_name(problem))
    return problem.code == "no-block-size" or bool(above & stems) or (problem.code == "missing-tensor" and bool(above & stacks))


def _problem(form: str, tensors: list[Tensor]) -> Problem:
    first = tensors[0]
    are = "weight is" if len(tensors) == 1 else "weights are"
    known = "inspect and explain know this form; convert, verify, trace and run do not read it yet"
    why = "nothing says what the codes mean" if form.endswith(WITHOUT) else known
    return Problem("scheme", f"{len(tensors):,} {are} stored as {form}: {why}", f"{first.file}: {first.name}", READ)

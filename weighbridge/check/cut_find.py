"""What the rules on parallel layout say in common: which faults are one cause, and which sizes work."""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check import cuts
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target

READ_IN = {"vllm": "vLLM main", "sglang": "SGLang main", "tensorrt-llm": "TensorRT-LLM main"}
_EP_FLAG = {"vllm": "--enable-expert-parallel", "sglang": "--ep-size", "tensorrt-llm": "--ep_size"}


def block_findings(rule: Rule, case: Case, target: Target, groups: tuple[str, ...], what: str, *, packed: bool = False) -> Iterator[Finding]:
    """One finding for each axis of each group of parts that the user's degrees cut through a block, or do not divide."""
    degrees = cuts.degrees(case.settings, target)
    by_cause: dict[tuple[str, str], list[cuts.CutFault]] = {}
    for fault in cuts.faults(case, degrees, groups, packed=packed):
        by_cause.setdefault((fault.part.group, fault.axis), []).append(fault)
    # The output side fails first, while the layer is made; one finding tells both.
    for group in dict.fromkeys(group for group, _ in by_cause):
        found = by_cause.get((group, "output"), []) + by_cause.get((group, "input"), [])
        yield _finding(rule, case, target, found, what)


def _finding(rule: Rule, case: Case, target: Target, found: list[cuts.CutFault], what: str) -> Finding:
    first = found[0]
    part = first.part
    whole = (part.cols if first.axis == "input" else part.rows // (2 if part.role.endswith("gate_up") else 1))
    share = f"{whole}/{first.ways} = {first.size}" if first.size else f"{whole}/{first.ways} is not whole"
    unit = "group" if part.packed else "block"
    title = f"{what} cannot be cut {first.ways} ways: {share}" + (f", and the {unit} is {first.unit}" if first.size else "")
    names = ", ".join(dict.fromkeys(f.part.name for f in found))
    roles: dict[str, list[str]] = {}
    for f in found:
        roles.setdefault(f.message, []).append(f"{f.part.role} [{f.part.rows}, {f.part.cols}]")
    evidence = "; ".join(f"{' and '.join(dict.fromkeys(who))}: {message}" for message, who in roles.items())
    consequence = ("ValueError: " if first.size else "AssertionError: ") + first.message
    if part.packed and part.suffix != ".qweight" and first.size:
        consequence = "the readers refuse the shape, or a rank multiplies by its neighbour's scale"
    if target.runtime == "tensorrt-llm":
        evidence = f"{', '.join(dict.fromkeys(f.part.role for f in found))}: {share}, {unit} {first.unit}"
        consequence = f"an assert of its kernels fails: {first.size or whole} is no multiple of {first.unit}"
    return rule.finding(title, Where(module=names.replace(".weight", ""), key=case.settings.where("tp"), count=sum(f.part.count for f in found)),
                        evidence=evidence, consequence=consequence, fix=size_fix(case, target, part.group), runtime=target.runtime)


def size_fix(case: Case, target: Target, group: str) -> Fix:
    """All sizes that work for this part, whole."""
    tp = (case.settings.tp or 1) * ((case.settings.dp or 1) if target.runtime == "vllm" else 1)
    plain, dealt = cuts.tp_sizes(case, target), cuts.tp_sizes(case, target, expert_parallel=True)
    if group == "experts":
        expert_tp, ep = cuts.expert_tp_sizes(case), cuts.ep_sizes(case, target, tp)
        flag = _EP_FLAG[target.runtime]
        text = f"expert TP {cuts.listed(expert_tp)}" + (f"; or EP {cuts.listed(ep)}: add {flag}" if ep else "")
        text += f". The whole model runs at TP {cuts.listed(plain)}; with all experts dealt out ({flag}) at TP {cuts.listed(dealt)}"
        return Fix(text, {"expert_tp": expert_tp, "ep": ep, "tp": plain, "tp_with_ep": dealt})
    text = f"TP {cuts.listed(plain)}"
    if dealt != plain and case.sizes.experts:
        text += f"; with all experts dealt out ({_EP_FLAG[target.runtime]}) TP {cuts.listed(dealt)}"
    return Fix(text, {"tp": plain, "tp_with_ep": dealt})

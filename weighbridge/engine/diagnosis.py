"""What a difference means: how large it may be, the first stage where it is larger, and the fault that looks like that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from weighbridge.engine.stages import Meter
from weighbridge.plan.reader import Reader, field_values

EQUAL, ROUNDED = 0.001, 0.25  # relative error of a stage: additions in another order give 1e-6, a BF16 router 3e-3, requantized rows 0.04
EQUAL_KL, ROUNDED_KL = 1e-4, 0.1  # nats per token
JUMP = 3.0  # a stage is at fault where its error is this many times that of what goes into it
ODD = 0.1  # share of changed expert choices that scores cannot explain
CHANGED = 0.005  # share of tokens with other experts, below which a choice is not judged
USUAL_SCALE = 1 / 2800  # amax/448 of trained weights; used where the side has no scales to look at
HARMLESS = {"halve", "double", "copy", "widen"}


@dataclass(frozen=True)
class Tolerance:
    """The largest relative error of a stage, the largest KL, and why these."""

    relative: float
    kl: float
    why: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


def tolerance(a: Any, b: Any, given: float | None) -> Tolerance:
    """`given`, or what the two sides say of themselves: equal values, or values that were rounded on the way."""
    lossy = _lossy(a, b)
    relative, kl = (EQUAL, EQUAL_KL) if not lossy else (ROUNDED, ROUNDED_KL)
    why = lossy or "both sides hold the same values, but for codes below 2^-5 if halving rounded them"
    return Tolerance(relative, kl, why) if given is None else Tolerance(given, kl, "the relative error is the caller's; " + why)


def _lossy(a: Any, b: Any) -> str:
    """Why the values of the two sides may differ, or an empty text."""
    if a.digest and a.digest == b.digest and a.numerics == b.numerics:
        return ""
    if a.source is None or b.source is None:
        return "one side was recorded: its device may compute in BF16"
    if a.numerics != b.numerics:
        return f"the numerics differ ({a.numerics}, {b.numerics})"
    first, second = ([_steps(hop) for hop in side.source.checkpoint.hops] for side in (a, b))
    while first and second and first[0] == second[0]:
        first, second = first[1:], second[1:]
    rounded = sorted({step for _, steps in (*first, *second) for step in steps} - HARMLESS)
    if rounded:
        return f"the manifests name lossy steps ({', '.join(rounded)})"
    if not first and not second and a.layout != b.layout:
        return f"no manifest says how {b.layout} was made from {a.layout}"
    return ""


def _steps(hop: dict[str, Any]) -> tuple[Any, list[str]]:
    steps = hop.get("lossy")
    return hop.get("from"), [str(step)[:40] for step in steps] if isinstance(steps, list) else []


def output_is_bad(outcome: dict[str, Any], limit: Tolerance) -> bool:
    """Whether the logits are out of tolerance. Logits that were not recorded are not judged."""
    recorded = outcome["top1_agreement"] is not None
    return recorded and (outcome["kl"] is None or outcome["kl"] > limit.kl)


def judge(found: list[Meter], outcome: dict[str, Any], limit: Tolerance, a: Any, b: Any) -> tuple[str | None, list[str], bool]:
    """The first stage out of tolerance, what can be said about it, and whether stages and output keep the tolerance."""
    begins: tuple[float, Meter] | None = None
    over: Meter | None = None
    wide = limit
    says: list[str] = []
    for meter, enters in _with_input(found):
        if meter.lost_a or meter.lost_b:
            return meter.name, [_not_finite(meter)], False
        if _choice_is_odd(meter):
            return meter.name, [_choice(meter)], False
        growth = (meter.relative or 0.0) / max(enters.relative or 0.0, limit.relative / 100) if enters else 0.0
        if (meter.relative or 0.0) > wide.relative / 10 and (begins is None or growth > begins[0]):
            begins = growth, meter
        if _is_over(meter, wide) and not (meter.name == "logits" and over is None and not output_is_bad(outcome, wide)):
            if enters is None or (meter.relative or math.inf) > JUMP * (enters.relative or 0.0) or begins is None:
                return meter.name, says + _fault(meter, wide, a, b), False
            over = over or meter
        if meter.other and wide.relative < ROUNDED and meter.swaps:
            wide = _after_a_tie(wide)
            near = f"{meter.other:,} of {meter.tokens:,} tokens stand so near a tie that rounding sends them to other experts"
            says = [f"At {meter.name} {near}; from there on the tolerance is {wide.relative:g}."]
    if over is not None:
        return over.name, says + _slow(over, begins[1] if begins else over, b), False
    if output_is_bad(outcome, wide):
        return None, [*says, "No stage is out of tolerance, the output is: the small differences of all layers add up."], False
    return None, says, True


def _after_a_tie(limit: Tolerance) -> Tolerance:
    """What holds once a token went to other experts: its values are others, by right."""
    return replace(limit, relative=max(limit.relative, ROUNDED), kl=max(limit.kl, ROUNDED_KL))


def _slow(over: Meter, begins: Meter, b: Any) -> list[str]:
    size = "no finite relative error" if over.relative is None else f"a relative error of {over.relative:.3g}"
    says = [f"{over.name} is the first stage out of tolerance, with {size}. What goes into it differs already: it begins at {begins.name}."]
    if b.numerics == "neuron":
        says.append("With neuron numerics q and k are normalized by each rank alone, and the router is rounded to BF16. Compare with --tp 1 to leave the first out.")
    return says


def _with_input(found: list[Meter]) -> Iterator[tuple[Meter, Meter | None]]:
    """Each stage with the stage whose difference goes into it."""
    before: dict[str, Meter] = {}
    block: Meter | None = None
    last: Meter | None = None
    for meter in found:
        stage = meter.name.rsplit(".", 1)[-1]
        if stage in ("attn", "norm", "logits"):
            yield meter, (last if stage == "logits" else block)
        elif stage == "router":
            yield meter, _larger(block, last)
        elif stage == "experts":
            yield meter, _larger(block, before.get("attn"))
        else:
            yield meter, _larger(block, last)
        before[stage] = last = meter
        if stage in ("embed", "block"):
            block = meter


def _larger(one: Meter | None, other: Meter | None) -> Meter | None:
    known = [m for m in (one, other) if m is not None and m.relative is not None]
    return max(known, key=lambda m: m.relative or 0.0) if known else None


def _is_over(meter: Meter, limit: Tolerance) -> bool:
    return meter.relative is None or meter.relative > limit.relative


def _not_finite(meter: Meter) -> str:
    if meter.lost_a:
        both = " and B" if meter.lost_b else ""
        return f"A{both} gives NaN or infinity from {meter.name} on: A cannot be the reference. explain and check look at its bytes."
    return (f"B gives NaN or infinity from {meter.name} on ({meter.lost_b:,} values), A does not: codes above 240 that a Neuron device reads as infinity "
            "or NaN, a NaN scale, or an overflow. check looks at the bytes.")


def _choice_is_odd(meter: Meter) -> bool:
    return meter.swaps > 0 and meter.odd > ODD * meter.swaps and meter.other > CHANGED * meter.tokens


def _choice(meter: Meter) -> str:
    only = f"the scores are the same (relative error {meter.relative:.1g})" if (meter.relative or 0) < EQUAL else f"the scores differ by {meter.relative:.2g}"
    return (f"{meter.name}: {100 * meter.other / meter.tokens:.1f} % of the tokens go to other experts; {only}, and {100 * meter.odd / meter.swaps:.0f} % "
            "of the swaps go against the scores. So the selection bias (e_score_correction_bias) is lost, misplaced or rounded.")


def settings_differ(a: Any, b: Any) -> list[str]:
    """What the two configurations say of the pass, where they do not say the same: rope_theta, eps, layers, and so on."""
    sides = [side.engine.architecture for side in (a, b) if side.source is not None]
    if len(sides) < 2:
        return []
    other = [f"{key}: {_told(getattr(sides[0], key))} in A, {_told(getattr(sides[1], key))} in B" for key in (f.name for f in fields(sides[0]))
             if getattr(sides[0], key) != getattr(sides[1], key)]
    return [f"The two config.json differ in what is computed. {'; '.join(other)}."] if other else []


def _told(value: Any) -> str:
    return str(value)[:160]


# ---- faults by what they look like


def _fault(meter: Meter, limit: Tolerance, a: Any, b: Any) -> list[str]:
    size = "has no finite value" if meter.relative is None else f"has a relative error of {meter.relative:.3g}, tolerance {limit.relative:g}"
    says = [f"{meter.name} is the first stage out of tolerance: it {size}; what goes into it is in order."]
    ratio, cosine = meter.ratio, meter.cosine
    stage = meter.name.rsplit(".", 1)[-1]
    if ratio == 0:
        says.append("B is zero there: a weight was left at zero, or its scale is.")
    elif ratio is not None and not 1 / 30 < ratio < 30:
        says += _by_scale(meter, ratio, stage, a, b)
    elif ratio is not None and cosine is not None and abs(ratio - 1) > max(0.02, 4 * math.sqrt(max(0.0, 1 - cosine**2))):
        says.append(f"B is A times {ratio:.4g}, in the same direction (cosine {cosine:.4f}): a factor is lost or applied twice: 2 and 0.5 are halved codes without "
                    "doubled scales or the reverse, 1.867 and 0.536 are 448/240, other numbers a routing or residual factor.")
    else:
        says.append(_by_direction(stage))
    return says


def _by_direction(stage: str) -> str:
    return {
        "attn": "The norm is of the same order, the direction is another one: rows of q or k in another order (GGUF's interleaved rotary order, heads exchanged), "
                "another rope_theta, or lost q/k norms. verify A B names the tensor.",
        "experts": "The norm is of the same order, the direction is another one: gate and up exchanged, experts in another order, scales of other blocks, or a "
                   "transposed matrix. verify A B names the tensor.",
        "router": "The router's weight is another one, or was rounded to BF16 (about 0.003).",
        "embed": "The embedding is another one, or the tokens are.",
        "logits": "lm_head is another one, or its rows are in another order.",
        "norm": "The last norm's weight is another one.",
    }.get(stage, "The stages that go into it agree: the sum of residual and output is formed in another way.")


def _by_scale(meter: Meter, ratio: float, stage: str, a: Any, b: Any) -> list[str]:
    """A norm that is off by orders of magnitude, against what missing and reciprocal scales would do."""
    scale = typical_scale(a.source, meter.name) or typical_scale(b.source, meter.name) or USUAL_SCALE
    most = 3 if stage == "experts" else 2  # matrices one after the other that a value passes: gate and up are multiplied, then down; v, then o
    found = math.log10(ratio)
    one = -math.log10(scale)
    guesses = [(n * one, f"the scale is missing (not multiplied in) on {_many(n)}") for n in range(1, most + 1)]
    guesses += [(2 * n * one, f"the reciprocal of the scale was taken on {_many(n)}") for n in range(1, most + 1)]
    near = sorted((abs(value - found), words) for value, words in guesses)
    told = f"B is {ratio:.3g} times as large as A. The typical scale s of this layer is {scale:.2g}, so 1/s = {1 / scale:.3g} and 1/s^2 = {1 / scale**2:.3g}"
    fit = [words for off, words in near if off < 0.25 * one and off <= near[0][0] + 0.05 * one]
    return [f"{told}: {', or '.join(fit)}." if fit else f"{told}: no fault of scales alone gives this factor."]


def _many(count: int) -> str:
    return {1: "one matrix that the value passes", 2: "two of them in a row", 3: "gate, up and down"}[count]


def typical_scale(source: Any, name: str) -> float | None:
    """Geometric mean of the scales behind a stage of a checkpoint, or None where it has none."""
    if source is None or source.checkpoint.store.path("config.json") is None:
        return None
    layer = name.rpartition(".")[0]
    parts = {"attn": (f"{layer}.attn.",), "experts": (f"{layer}.moe.", f"{layer}.mlp.")}.get(name.rsplit(".", 1)[-1], ())
    listed = [(b, b.encoding.scale) for b in source.bound if b.encoding.scale and any(p.weight.startswith(parts) for p in b.stored.placement.parts[:1])]
    logs = []
    for group, raw in Reader(source).scales(listed):
        for (bound, field), own in zip(group, np.split(raw, np.cumsum([b.scale.nbytes for b, _ in group])[:-1]), strict=True):
            values = field_values(field, bound.scale, own)
            good = values[np.isfinite(values) & (values > 0)]
            logs += [float(np.log(good, dtype=np.float64).mean())] if len(good) else []
    return math.exp(sum(logs) / len(logs)) if logs else None

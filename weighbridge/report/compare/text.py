"""Where two runs part, for people: the output in five lines, one table of the stages with bars, the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from weighbridge.report.markdown import escaped
from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.units import count

LONG = 8  # layers; a longer model is shown in part
NEAR, EACH = 1, 8  # layers on both sides of the first bad one; of the others every n-th, so that about EACH stay
BAR, LOW, HIGH = 24, -7.0, 1.0  # characters; powers of ten at both ends of a bar
EIGHTHS = " ▏▎▍▌▋▊▉█"


def text(document: dict[str, Any]) -> str:
    """For a terminal."""
    return _whole(document, text_table, str)


def markdown(document: dict[str, Any]) -> str:
    """The same as Markdown."""
    return _whole(document, markdown_table, escaped)


def _whole(document: dict[str, Any], table: Callable[..., str], says: Callable[[str], str]) -> str:
    lines = [says(f"{name}: {side['source']} ({side['layout']}, {side['numerics']})") for name, side in (("A", document["a"]), ("B", document["b"]))]
    lines += [f"{count(document['prompts'], 'prompt')}, {count(document['positions'], 'position')}", ""]
    lines += [table(("output", "value"), output(document)), ""]
    shown, left = chosen(document["layers"], document["first_bad_layer"])
    head = ("stage", "relative", "cosine", "mean abs", "max abs", "other experts", f"relative, 1e{LOW:g} to {10**HIGH:g}")
    kept = [i for i, name in enumerate(head) if name != "other experts" or any("other_experts" in row for row in shown)]
    lines.append(table([head[i] for i in kept], [[cells[i] for i in kept] for cells in (_row(row, document) for row in shown)]))
    if left:
        lines.append(f"{count(left, 'stage')} more: --format json lists all")
    for side, names in document["missing"].items():
        lines.append(says(f"{count(len(names), 'stage')} not in {side.upper()}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"))
    return "\n".join([*lines, "", *map(says, verdict(document))])


def output(document: dict[str, Any]) -> list[tuple[str, str]]:
    """What the logits say, each figure with its standard error."""
    top = document["top1_agreement"]
    if top is None:
        return [("logits", "not recorded on both sides")]
    rows = [("KL(A||B), nats/token", number(document["kl"], document["kl_stderr"])),
            ("same most likely token", f"{100 * top:.2f} %" + (f" ± {100 * document['top1_stderr']:.2f}" if document["top1_stderr"] is not None else "")),
            ("nats/token of the text, B - A", number(document["nats_difference"], document["nats_stderr"], True))]
    if document["nats_a"] is not None and document["nats_b"] is not None:
        rows[-1] = (rows[-1][0], f"{rows[-1][1]}  (A {document['nats_a']:.4f}, B {document['nats_b']:.4f})")
    return [*rows, ("first different token", _parted(document["first_different_token"]))]


def number(value: float | None, error: float | None, sign: bool = False) -> str:
    """`0.0117 ± 0.0008`; NaN is said in words."""
    if value is None:
        return "not a number"
    form = "+.3g" if sign else ".3g"
    return format(value, form) + ("" if error is None else f" ± {error:.2g}")


def _parted(parts: dict[str, Any] | None) -> str:
    if parts is None:
        return "none"
    tokens = [f"{side.upper()} {_token(parts, side)}" for side in ("a", "b")]
    way = "greedy decoding" if parts["decoding"] == "greedy" else "the recorded text"
    return f"position {parts['position']:,} of prompt {parts['prompt'] + 1} ({way}): {', '.join(tokens)}"


def _token(parts: dict[str, Any], side: str) -> str:
    if parts[side] < 0:
        return "NaN"
    told = parts.get(f"{side}_text")
    return f"{parts[side]}" + (f" {told!r}" if told is not None else "")


def chosen(rows: list[dict[str, Any]], bad: str | None) -> tuple[list[dict[str, Any]], int]:
    """The rows that are shown, and the number of those that are not: of a long model the layers around the bad one, and every n-th block."""
    layers = sorted({layer for row in rows if (layer := layer_of(row["name"])) is not None})
    if len(layers) <= LONG:
        return rows, 0
    at = layer_of(bad or "")
    near = {0, layers[-1]} if at is None else set(range(at - NEAR, at + NEAR + 1))
    each = -(-len(layers) // EACH)
    shown = [row for row in rows if (layer := layer_of(row["name"])) is None or layer in near or (layer % each == 0 and row["name"].endswith(".block"))]
    return shown, len(rows) - len(shown)


def layer_of(name: str) -> int | None:
    """3 of `layers.3.attn`; None of the stages outside the layers."""
    return int(name.split(".")[1]) if name.startswith("layers.") else None


def _row(row: dict[str, Any], document: dict[str, Any]) -> tuple[str, ...]:
    mark = " <-" if row["name"] == document["first_bad_layer"] else ""
    experts = f"{100 * row['other_experts']:.2f} %" if "other_experts" in row else ""
    lost = sum(row["not_finite"])
    cosine = "-" if row["cosine"] is None else f"{row['cosine']:.6f}"
    numbers = [_short(row["relative"]), cosine, _short(row["mean_abs"]), _short(row["max_abs"])]
    return (row["name"] + mark, *numbers, experts, f"{lost:,} NaN or infinite" if lost else bar(row["relative"]))


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def bar(value: float | None) -> str:
    """A bar on a logarithmic scale, empty below its low end."""
    if value is None:
        return "?"
    power = math.log10(value) if value > 0 else LOW
    eighths = round(8 * BAR * (min(max(power, LOW), HIGH) - LOW) / (HIGH - LOW))
    return EIGHTHS[8] * (eighths // 8) + EIGHTHS[eighths % 8].strip()


def verdict(document: dict[str, Any]) -> list[str]:
    """The words, and the tolerance with its reason."""
    limit = document["tolerance"]
    says = document["says"]
    kept = f"Tolerance: relative error of a stage {limit['relative']:g}, KL {limit['kl']:g}; {limit['why']}."
    if document["ok"]:
        return [*says, kept, "OK: the two runs agree within the tolerance"]
    return [*says, kept, f"THE RUNS PART at {document['first_bad_layer'] or 'the output'}"]

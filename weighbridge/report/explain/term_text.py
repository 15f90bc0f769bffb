"""Pages of terms in the terminal and as Markdown, with their pictures drawn in characters."""

from __future__ import annotations

from itertools import pairwise
from math import floor, log10
from typing import Any

from weighbridge.report.explain.format_text import WIDTH, amount, even_line, scale_of
from weighbridge.report.wrap import wrapped


def text(document: dict[str, Any]) -> list[str]:
    """One text for each section, and the picture after the first."""
    parts = [f"{heading}\n" + "\n".join(_block(block, follows) for follows, block in _spaced(blocks))
             for heading, blocks in document["sections"].items()]
    if "figure" in document:
        figure = document["figure"]
        parts.insert(1, "\n".join("  " + line if line else "" for line in [figure["title"], "", *FIGURES[figure["kind"]](figure)]))
    return parts


def markdown(document: dict[str, Any]) -> list[str]:
    parts = [f"## {heading}\n\n" + "\n\n".join(_markdown(block) for block in blocks) for heading, blocks in document["sections"].items()]
    if "figure" in document:
        figure = document["figure"]
        parts.insert(1, "```text\n" + "\n".join([figure["title"], "", *FIGURES[figure["kind"]](figure)]) + "\n```")
    return parts


def _spaced(blocks: list[dict[str, Any]]) -> list[tuple[bool, dict[str, Any]]]:
    """Each block with whether an empty line goes before it: not the first, and no list right after its sentence."""
    return [(place > 0 and not (block["kind"] == "list" and blocks[place - 1]["kind"] == "paragraph"), block) for place, block in enumerate(blocks)]


def _block(block: dict[str, Any], spaced: bool) -> str:
    lead = "\n" if spaced else ""
    if block["kind"] == "list":
        return lead + "\n".join(wrapped(item, indent=4, first="  * ") for item in block["items"])
    return lead + (f"      {block['text']}" if block["kind"] == "formula" else wrapped(block["text"], indent=2))


def _markdown(block: dict[str, Any]) -> str:
    if block["kind"] == "list":
        return "\n".join(f"* {item}" for item in block["items"])
    return f"    {block['text']}" if block["kind"] == "formula" else str(block["text"])


def _limits(figure: dict[str, Any]) -> list[str]:
    """The positive axes of the formats below each other, and what each code means in them."""
    top = max(max(line["values"]) for line in figure["lines"])
    out = []
    for line in figure["lines"]:
        out += [f"{line['name'].ljust(9)} {even_line([v for v in line['values'] if v >= top / 16], 0.0, top, WIDTH - 12)}"]
    out += [" " * 10 + scale_of([(i / 7, amount(top * i / 7)) for i in range(8)], WIDTH - 12), "", f"(values from {amount(top / 16)} up)", ""]
    out += ["code      " + "".join(f"0x{mark['code']:02X}".rjust(10) for mark in figure["lines"][0]["marked"])]
    for line in figure["lines"]:
        out.append(line["name"].ljust(10) + "".join((amount(m["value"]) if m["value"] is not None else "NaN" if m["kind"] == "nan"
                                                     else "infinity").rjust(10)
                                                    for m in line["marked"]))
    return [*out, "", "the code of 1.0: " + ", ".join(f"0x{line['one']:02X} in {line['name']}" for line in figure["lines"])]


def _convention(figure: dict[str, Any]) -> list[str]:
    """Weights on an axis of powers of ten: where multiplying and where dividing puts the same codes."""
    low = floor(log10(min(c["multiplied"] for c in figure["codes"])))
    high = floor(log10(max(c["divided"] for c in figure["codes"]))) + 1

    def place(value: float) -> float:
        return (log10(value) - low) / (high - low)

    rows = [("code x scale", "multiplied"), ("code / scale", "divided")]
    out = []
    for label, key in rows:
        line = [" "] * (WIDTH - 15)
        for held in figure["codes"]:
            line[round(place(held[key]) * (len(line) - 1))] = "#"
        out.append(f"{label}  " + "".join(line).rstrip())
    out.append(" " * 14 + scale_of([((e - low) / (high - low), f"1e{e}") for e in range(low, high + 1)], WIDTH - 15))
    marks = ", ".join(f"{c['code']:g}" for c in figure["codes"])
    return [*out, "", f"# = the codes {marks} of a block with the scale {figure['scale']:.4g}"]


def _blocks(figure: dict[str, Any]) -> list[str]:
    """The grid as boxes, about one character for 8 columns and 32 rows."""
    rows, columns, (height, width) = figure["rows"], figure["columns"], figure["block"]
    cuts = [min(c, columns) // 8 for c in range(0, columns + width, width)][: figure["grid"][1] + 1]
    rule = "+" + "+".join("-" * (b - a - 1) for a, b in pairwise(cuts)) + "+"
    out = [rule]
    for i in range(figure["grid"][0]):
        held = min((i + 1) * height, rows) - i * height
        lines = max(1, held // 32 - 1)
        for at in range(lines):
            words = [f"s[{i},{j}]" if at == lines // 2 else "" for j in range(figure["grid"][1])]
            out.append("|" + "|".join(word.center(b - a - 1) for word, a,
                                      b in zip(words, cuts, cuts[1:], strict=False)) + f"|  {f'{held} rows' if at == lines // 2 else ''}".rstrip())
        out.append(rule)
    last = columns - (figure["grid"][1] - 1) * width
    at = figure["cell"]
    return [*out, (f"columns: {figure['grid'][1] - 1} blocks of {width}, and one of {last}. Weight ({at['row']}, {at['column']}) has the scale "
                   f"s[{at['row'] // height},{at['column'] // width}].")]


def _cuts(figure: dict[str, Any]) -> list[str]:
    """The blocks of an axis above the shares of the ranks."""
    unit = figure["width"] / (WIDTH - 18)

    def ruler(step: int) -> str:
        line = ["-"] * (WIDTH - 17)
        for at in range(0, figure["width"] + 1, step):
            line[round(at / unit)] = "|"
        return "".join(line)

    out = [f"blocks of {figure['block']}".ljust(16) + ruler(figure["block"])]
    for way in figure["ways"]:
        verdict = "every rank has whole blocks" if way["whole"] else f"blocks cut in two: {', '.join(map(str, way['cut_blocks']))}"
        out += [f"{way['ways']} x {way['share']}".ljust(16) + ruler(way["share"]), " " * 16 + verdict]
    return out


FIGURES = {"limits": _limits, "convention": _convention, "blocks": _blocks, "cuts": _cuts}

"""One tensor worked by hand, for a terminal of 110 columns and as Markdown. The page and the picture have files of their own."""

from __future__ import annotations

import math
from typing import Any

from weighbridge.report.explain import tensor_words as words
from weighbridge.report.explain.tensor_summary import facts
from weighbridge.report.markdown import escaped, fenced
from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.visible import visible

SHADES = "·░▒▓█"
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 108


def text(document: dict[str, Any]) -> str:
    """Sections with headings, maps in block characters, tables."""
    return "\n\n".join(f"{title}\n{'-' * len(title)}\n{body}" for title, body in _sections(document, text_table, _wrapped))


def markdown(document: dict[str, Any]) -> str:
    """The same as Markdown; maps and histograms stand in code blocks."""
    sections = _sections(document, markdown_table, lambda lines: "\n\n".join(escaped(line) for line in lines), fenced)
    return "\n\n".join(f"{'#' if number == 0 else '##'} {escaped(title)}\n\n{body}" for number, (title, body) in enumerate(sections))


def html(document: dict[str, Any]) -> str:
    from weighbridge.report.explain.tensor_html import html as made

    return made(document)


def svg(document: dict[str, Any]) -> str:
    from weighbridge.report.explain.tensor_svg import svg as made

    return made(document)


def _sections(document: dict[str, Any], table: Any, prose: Any, fixed: Any = str) -> list[tuple[str, str]]:
    title = f"{visible(document['tensor']['name'])}, worked by hand"
    out = [(title, table(("what", ""), [(a or " ", b) for a, b in facts(document)]) if fixed is fenced else _facts(document))]
    maps = document["maps"]
    if document["scales"]:
        drawn = _map(maps["scale"]) if maps else ""
        out.append(("Scales", prose(words.scale_words(document)) + (f"\n\n{fixed(drawn)}" if drawn else "")))
    told = prose(words.code_words(document))
    if document["codes"]:
        drawn = document["codes"]["zero"] < document["codes"]["total"]
        out.append(("Codes", told + ("\n\n" + fixed(_histogram(document)) if drawn else "")))
    else:
        out.append(("Values", told + (f"\n\n{fixed(_powers(document))}" if document["exponents"]["powers"] else "")))
    out.append(("One block by hand", _block(document, table, prose, fixed)))
    if document["conventions"]:
        out.append(("HF's e4m3fn and Neuron's E4M3", prose(words.convention_words(document))))
    if document["costs"] and not words.nothing_to_lose(document):
        out.append(("What other ways of storing it cost", _costs(document, table, prose, fixed)))
    if maps:
        out.append(("Error of each block", _errors(document, prose, fixed)))
    return out


def _facts(document: dict[str, Any]) -> str:
    lines = []
    for label, told in facts(document):
        first, *rest = _fold(told, WIDTH - 14)
        lines += [f"{label:<12}  {first}", *(" " * 14 + line for line in rest)]
    return "\n".join(lines)


def _block(document: dict[str, Any], table: Any, prose: Any, fixed: Any) -> str:
    parts = [prose(words.block_words(document))]
    if not document["block"] or not document["block"]["weights"]:
        return parts[0]
    parts.append(table(*words.stored_table(document)))
    parts.append(fixed("\n".join(words.formulas(document))))
    other = words.other_table(document)
    if other:
        parts += [prose([words.told_other(document)]), table(*other)]
    return "\n\n".join(parts)


def _costs(document: dict[str, Any], table: Any, prose: Any, fixed: Any) -> str:
    head, rows = words.cost_table(document)
    if fixed is fenced:
        return table(head, rows)
    says = [f"{row[0]}: {row[-1]}." for row in rows]
    return table(head[:-1], [row[:-1] for row in rows]) + "\n\n" + prose(says + words.factor_words(document))


def _errors(document: dict[str, Any], prose: Any, fixed: Any) -> str:
    first, *rest = words.error_words(document) or ["No block has a value other than zero."]
    drawn = _map(document["maps"]["error"]) if "error" in document["maps"] else ""
    return "\n\n".join([prose([first]), *([fixed(drawn)] if drawn else []), *([prose(rest)] if rest else [])])


def _map(told: dict[str, Any]) -> str:
    """A grid in shades of a logarithmic scale, or in numbers where it is small. A question mark is no number."""
    cells = told["cells"]
    known = [v for v in words.known(told) if v > 0]
    if not known or len(cells) * len(cells[0]) == 1:
        return ""
    low, high = min(known), max(known)
    if len(cells[0]) <= 8 and len(cells) <= 24:
        return _numbers(told, low, high)
    wide = max(1, min(3, 84 // len(cells[0])))
    step = told["step"]
    lines = [f"{'':>9}{_ruler(len(cells[0]), wide, step[1])}  largest of the row"]
    for place, row in enumerate(cells):
        own = [v for v in row if v is not None]
        lines.append(f"{told['first'][place]:>8} " + "".join(_shade(v, low, high) * wide for v in row) + f"  {words.short(max(own), 4) if own else '?'}")
    legend = f"{'':>9}{SHADES[0]} {words.short(low, 3)}  to  {SHADES[-1]} {words.short(high, 3)}, logarithmic" if high > low else f"{'':>9}all {words.short(high, 6)}"
    if any(v is None for row in cells for v in row):
        legend += "; ? no number"
    if any(v == 0 for row in cells for v in row):
        legend += "; a blank is zero"
    notes = [] if step == [1, 1] else [f"one sign stands for {step[0]} x {step[1]} blocks"]
    notes += ["only rows that were looked at"] if told["sampled"] else []
    return "\n".join([*lines, legend, *(f"{'':>9}{'; '.join(notes)}" for _ in notes[:1])])


def _ruler(columns: int, wide: int, step: int) -> str:
    """Numbers of the block columns above a map."""
    every = max(1, -(-8 // wide))
    line = [" "] * (columns * wide)
    for column in range(0, columns, every):
        for place, letter in enumerate(str(column * step)):
            if column * wide + place < len(line):
                line[column * wide + place] = letter
    return "".join(line)


def _shade(value: float | None, low: float, high: float) -> str:
    if value is None:
        return "?"
    if value <= 0:
        return " "
    share = math.log(value / low) / math.log(high / low) if high > low else 1.0
    return SHADES[min(len(SHADES) - 1, int(share * len(SHADES)))]


def _numbers(told: dict[str, Any], low: float, high: float) -> str:
    step = told["step"]
    head = ("", *(str(c * step[1]) for c in range(len(told["cells"][0]))))
    return text_table(head, [(str(told["first"][place]), *(f"{_shade(v, low, high)} {words.short(v, 4) if v is not None else 'no number'}" for v in row))
                             for place, row in enumerate(told["cells"])])


def _histogram(document: dict[str, Any]) -> str:
    """One line for each exponent: its codes as small bars, and their sum as a long one."""
    rows = words.histogram(document)
    top = max(max(plus + minus) for _, _, plus, minus in rows)
    most = max(sum(plus) + sum(minus) for _, _, plus, minus in rows)
    signed = bool(rows[0][3])
    label = max(9 if signed else 0, *(len(r[0]) for r in rows))
    span = max(len("values"), *(len(r[1]) for r in rows))
    eight = max(9 if signed else 5, len(rows[0][2]))
    names = ("exponent", "positive", "negative") if signed else ("", "codes", "")
    lines = [f"{names[0]:<{label}}{'values':<{span}}  {names[1]:<{eight}} {names[2]:<{eight if signed else 0}}{'count':>13}"]
    for name, values, plus, minus in rows:
        total = sum(plus) + sum(minus)
        bars = "".join(_bar(c, top) for c in plus), "".join(_bar(c, top) for c in minus)
        long = "█" * round(30 * total / most) or ("▏" if total else "")
        lines.append(f"{name:<{label}}{values:<{span}}  {bars[0]:<{eight}} {bars[1]:<{eight if signed else 0}}{total:>13,}  {long}".rstrip())
    return "\n".join([*lines, "small bars: one for each code, lowest first; a dot is a code that does not occur"])


def _bar(count: int, top: int) -> str:
    return "·" if not count else BARS[min(7, count * 8 // (top + 1))]


def _powers(document: dict[str, Any]) -> str:
    """For plain floats: how many values lie from one power of two to the next; runs at the low end are summed up."""
    rows = document["exponents"]["powers"]
    kept, below = rows[-28:], rows[:-28]
    lines = [("below 2^" + str(kept[0]["power"]), sum(r["count"] for r in below))] if below else []
    lines += [(f"2^{r['power']}", r["count"]) for r in kept]
    most = max(1, *(c for _, c in lines)) if lines else 1
    head = f"{'from':>12}  {'values up to the next power of two':>15}\n"
    return head + "\n".join(f"{label:>12}  {count:>15,}  {'█' * round(60 * count / most) or ('▏' if count else '')}".rstrip() for label, count in lines)


def _wrapped(lines: list[str]) -> str:
    return "\n".join(part for line in lines for part in _fold(line, WIDTH))


def _fold(line: str, width: int) -> list[str]:
    out, current = [], ""
    for word in line.split(" "):
        if current and len(current) + 1 + len(word) > width:
            out.append(current)
            current = word
        else:
            current = f"{current} {word}" if current else word
    return [*out, current]

"""One tensor worked by hand, as a page: the same sections as the text, with pictures. The numbers are text everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weighbridge.report.explain import tensor_svg as drawn
from weighbridge.report.explain import tensor_words as words
from weighbridge.report.explain.tensor_summary import facts
from weighbridge.report.svg import attribute, picture, text_of
from weighbridge.report.visible import visible
from weighbridge.report.webpage import page

STYLE = drawn.STYLE + """.facts{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:18px 0}.facts dt{color:var(--quiet)}.facts dd{margin:0;overflow-wrap:anywhere}
.maps{display:flex;flex-wrap:wrap;gap:8px 40px;align-items:flex-start}.figure{max-width:100%;overflow-x:auto;margin:14px 0}.figure svg{display:block;max-width:none}
.bits{white-space:nowrap;display:inline-flex;gap:2px}.bits b{font:12px ui-monospace,Menlo,Consolas,monospace;border:1px solid;border-radius:3px;padding:0 4px}
td,th{white-space:nowrap}td.say{white-space:normal;min-width:22em}p{max-width:75ch}.formulas{columns:2 30em}.formulas code{display:block;white-space:pre-wrap;break-inside:avoid;margin:2px 0}
@media(max-width:640px){.facts{grid-template-columns:1fr}.facts dt{margin-top:6px}}"""
LEFT = ("at", "why this one", "code", "bits", "stored", "halved", "doubled", "raw byte", "way", "what it does", "max 448: code", "max 240: code")


def html(document: dict[str, Any]) -> str:
    """The whole page. Names from the file are escaped; nothing is fetched."""
    body = [_facts(document), _scales(document), _codes(document), _block(document), _conventions(document), _costs(document), _errors(document)]
    return page(f"{document['tensor']['name']}, worked by hand", "\n".join(part for part in body if part), style=STYLE,
                foot=f"Every number on this page is computed from the bytes of {text_of(document['source'])}.")


def _facts(document: dict[str, Any]) -> str:
    rows = "".join(f"<dt>{text_of(label)}</dt><dd>{text_of(told)}</dd>" for label, told in facts(document))
    return f'<dl class="facts">{rows}</dl>'


def _paragraphs(lines: Sequence[str]) -> str:
    return f"<p>{' '.join(text_of(told) for told in lines)}</p>" if lines else ""


def _figure(figure: drawn.Figure, width: float, title: str, name: str) -> str:
    elements, height = figure
    made = picture(width, height, title, [elements], inside_page=True, name=name)
    return f'<div class="figure" tabindex="0" role="group" aria-label={attribute(title)}>' + made.replace("<svg ", f'<svg width="{width:g}" height="{height:.0f}" ', 1) + "</div>"


def _scales(document: dict[str, Any]) -> str:
    if not document["scales"] or not document["maps"]:
        return ""
    told = drawn.heat_map(document["maps"]["scale"], 0, 0, _wide(document["maps"]["scale"]), "Scale of each block")
    return f"<h2>Scales</h2>{_paragraphs(words.scale_words(document))}{_figure(told, _wide(document['maps']['scale']) + 60, 'Scale of each block', 'scales')}"


def _wide(told: dict[str, Any]) -> float:
    """A map's width by its columns, so that cells keep a size that can be pointed at."""
    return min(980.0, max(300.0, 44.0 + 18 * len(told["cells"][0])))


def _codes(document: dict[str, Any]) -> str:
    title = "Codes" if document["codes"] else "Values"
    return f"<h2>{title}</h2>{_paragraphs(words.code_words(document))}{_figure(drawn.counts(document, 0, 0, 1120), 1130, 'Histogram', 'histogram')}"


def _block(document: dict[str, Any]) -> str:
    out = ["<h2>One block by hand</h2>", _paragraphs(words.block_words(document))]
    if document["block"] and document["block"]["weights"]:
        weights = document["block"]["weights"]
        out.append(_table(words.stored_table(document), "Eight weights as the file holds them", [{3: _bits(w["stored"]["bits"])} for w in weights]))
        out.append('<h3>Written out</h3><div class="formulas">' + "".join(f"<code>{text_of(told)}</code>" for told in words.formulas(document)) + "</div>")
        other = words.other_table(document)
        if other:
            name = words.told_other(document)
            out.append(f"<h3>{text_of(name.rstrip(':'))}</h3>" + _table(other, name, [_other_bits(document, w) for w in weights]))
    return "".join(out)


def _other_bits(document: dict[str, Any], weight: dict[str, Any]) -> dict[int, str]:
    if "other" in weight:
        return {3: _bits(weight["other"]["bits"])}
    return {2: _bits(weight["block-448"]["bits"]), 6: _bits(weight["block-240"]["bits"])} if document["codes"] is None else {}


def _bits(parts: Sequence[str]) -> str:
    """Sign, exponent and mantissa in boxes of their colours; a reader hears the bits."""
    kinds = drawn.PARTS if len(parts) == 3 else ("fp8",) * len(parts)
    return '<span class="bits">' + "".join(f'<b class="b-{kind}">{part}</b>' for kind, part in zip(kinds, parts, strict=True)) + "</span>"


def _table(told: words.Table, label: str, marked: Sequence[dict[int, str]] = ()) -> str:
    """A table in a box that scrolls by itself. `marked` gives cells of a row as markup that is ready."""
    head, rows = told
    sides = ["" if name in LEFT else ' class="n"' for name in head]
    names = "".join(f'<th scope="col"{side}>{text_of(name)}</th>' for name, side in zip(head, sides, strict=True))
    lines = []
    for place, row in enumerate(rows):
        ready = marked[place] if place < len(marked) else {}
        cells = (f'<td{_class(head[i], sides[i])}>{ready.get(i) or text_of(cell)}</td>' for i, cell in enumerate(row))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (f'<div class="wide" tabindex="0" role="region" aria-label={attribute(label)}><table><thead><tr>{names}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>")


def _class(name: str, side: str) -> str:
    return ' class="say"' if name == "what it does" else side


def _conventions(document: dict[str, Any]) -> str:
    lines = words.convention_words(document)
    return f"<h2>HF's e4m3fn and Neuron's E4M3</h2>{_paragraphs(lines)}" if lines else ""


def _costs(document: dict[str, Any]) -> str:
    if not document["costs"] or words.nothing_to_lose(document):
        return ""
    more = words.factor_words(document)
    return f"<h2>What other ways of storing it cost</h2>{_table(words.cost_table(document), 'Cost of other ways of storing it')}{_paragraphs(more)}"


def _errors(document: dict[str, Any]) -> str:
    maps = document["maps"]
    if not maps:
        return ""
    figures = []
    for key, name, zero in (("error", "error", "exact"), ("bound", "bound", "zero")):
        if key in maps and any(v is not None for row in maps[key]["cells"] for v in row):
            title = f"Relative error of '{maps[key]['way']}'" if key == "error" else "Bound of quantization itself"
            figures.append(_figure(drawn.heat_map(maps[key], 0, 0, min(520.0, _wide(maps[key])), title, zero=zero), min(520.0, _wide(maps[key])) + 60, visible(title), name))
    told = "".join(_paragraphs([line]) for line in words.error_words(document))
    return f'<h2>Error of each block</h2>{told}<div class="maps">{"".join(figures)}</div>'

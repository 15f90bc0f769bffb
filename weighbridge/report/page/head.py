"""The first screen: what it is, what is wrong with it, and the command that says so again."""

from __future__ import annotations

from typing import Any

from weighbridge.report.page.findings import FILES, SEVERITIES, reader
from weighbridge.report.page.parts import Markup, chip, copied, icon, table, text_of
from weighbridge.report.svg import classed
from weighbridge.report.units import count, size


def head(document: dict[str, Any]) -> str:
    """Figures, shares of encodings, and the verdict for each reader."""
    inspect = document["inspect"]
    if inspect is None:
        return _wrapped("", document)
    kind = f"{text_of(inspect['model_type'])} · " if inspect["model_type"] else ""
    lead = f'<p class="lead">{kind}{count(inspect["shards"], "file")} · {count(inspect["tensors"], "tensor")}</p>'
    return _wrapped(f"{lead}{_figures(inspect)}{_shares(inspect)}", document)


def _wrapped(figures: str, document: dict[str, Any]) -> str:
    title, command = next((title, document["commands"][verb]) for verb, title in (("report", "This page again"), ("check", "The findings in the terminal"))
                          if verb in document["commands"])
    made = f'<h3>{title}</h3>{copied(command, "the command")}'
    told = "".join(f'<p class="banner">{icon("warning")} {text_of(n["reason"])}.</p>' for n in document.get("notes", ()) if n["part"] == "checkpoint")
    return (f'<section id="summary" aria-labelledby="summary-h"><h2 id="summary-h" class="hidden-text">Summary</h2>{told}{figures}'
            f'<div class="verdict">{_verdict(document["check"])}</div>{made}</section>')


def people(number: int) -> str:
    """A count in words of scale: `228.70 billion`."""
    for step, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if number >= step:
            return f"{number / step:.2f} {word}"
    return f"{number:,}"


def _figures(inspect: dict[str, Any]) -> str:
    plain, stored = inspect["bytes_bf16"], inspect["bytes"]
    figures = [("parameters", people(inspect["parameters"]), f"{inspect['parameters']:,}"), ("on disk", size(stored), f"{stored:,} bytes")]
    if inspect["weights_quantized"] and plain:
        figures.append(("in BF16 it would be", size(plain), f"these files have {100 * stored / plain:.1f} % of that"))
        every = f"of {inspect['weights_quantized'] + inspect['others']:,}, with {count(inspect['scales'], 'scale')}"
        figures.append(("quantized weights", f"{inspect['weights_quantized']:,}", every))
    elif plain:
        figures.append(("in BF16 it takes", size(plain), ""))
    cards = "".join(f'<div class="card"><dt>{name}</dt><dd><b>{text_of(big)}</b> <span>{text_of(small)}</span></dd></div>' for name, big, small in figures)
    return f'<dl class="figures">{cards}</dl>'


def shares(inspect: dict[str, Any]) -> list[tuple[str, str, int, int]]:
    """(kind, name, weights, bytes) of each encoding, the largest first. Scales count with their weights."""
    found: dict[tuple[str, str], list[int]] = {}
    for row in inspect["roles"]:
        coded = row["strategy"] != "none"
        block = f" {'x'.join(map(str, row['block']))}" if row["block"] else ""
        name = row["dtype"] + (f", {row['strategy']}{block}" if coded else "")
        sums = found.setdefault((row["kind"], name), [0, 0])
        sums[0] += row["count"]
        sums[1] += row["bytes"]
    return [(kind, name, *sums) for (kind, name), sums in sorted(found.items(), key=lambda item: (-item[1][1], item[0]))]


def _shares(inspect: dict[str, Any]) -> str:
    total = sum(row[3] for row in shares(inspect)) or 1
    bar = "".join(f'<i class={classed("b-" + kind)} style="flex-grow:{nbytes / total:.6f}"></i>' for kind, _, _, nbytes in shares(inspect) if nbytes)
    words = "".join(f'<li>{chip(kind, name)} <b>{percent(nbytes / total)}</b> <span class="quiet-text">{size(nbytes)}, {count(weights, "weight")}</span></li>'
                    for kind, name, weights, nbytes in shares(inspect))
    return f'<h3>Share of bytes by encoding</h3><div class="shares" aria-hidden="true">{bar}</div><ul class="legend">{words}</ul>'


def percent(share: float) -> str:
    """A share that is never rounded to nothing, nor to all where something is left."""
    if 0 < share < 0.0005:
        return "under 0.1 %"
    return "over 99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"


def _verdict(check: dict[str, Any]) -> str:
    """One row for the files and one for each reader that was named: how many errors, warnings and notes."""
    names = [FILES, *check["runtimes"]]
    others = [reader(f) for f in check["findings"]]
    names += [name for name in dict.fromkeys(others) if name not in names]
    counts = {name: dict.fromkeys(SEVERITIES, 0) for name in names}
    for f in check["findings"]:
        counts[reader(f)][f["severity"]] += 1
    rows = [("the files" if name == FILES else name, *(_many(counts[name][s], s) for s in SEVERITIES)) for name in names]
    return f"<h3>{_sentence(check)}</h3>{table(('About', 'Errors', 'Warnings', 'Notes'), rows, 'Findings by reader')}"


def _many(number: int, severity: str) -> Markup:
    return Markup(f'<span class="many">{icon(severity)} {number}</span>' if number else '<span class="quiet-text">0</span>')


def _sentence(check: dict[str, Any]) -> str:
    summary = check["summary"]
    if summary["error"]:
        return f'{icon("error")} <a href="#findings">{count(summary["error"], "error")}</a>: something fails, or is computed wrongly'
    if summary["warning"]:
        return f'{icon("warning")} No error, <a href="#findings">{count(summary["warning"], "warning")}</a>'
    return f'{icon("good")} No error and no warning'

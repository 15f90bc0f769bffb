"""Sections that are tables: weights by role, what the config claims, and the proof against another checkpoint."""

from __future__ import annotations

from typing import Any

from weighbridge.report.draw import svg as draw_svg
from weighbridge.report.page.parts import Markup, chip, icon, section, table, text_of
from weighbridge.report.units import count, size

GRADES = (("identical", "same codes and scales"), ("exact", "same real values"), ("bounded", "within the bound of the step that made it"),
          ("wrong", "outside its bound"))
CLAIMED = (("quant_method", "method"), ("fmt", "format"), ("block", "block"), ("group_size", "group size"), ("bits", "bits"),
           ("activation_scheme", "activations"), ("scale_fmt", "scale format"))
SHOWN = 40  # names of a list before "and n more"


def weights(document: dict[str, Any]) -> str:
    """The table of `inspect`: one row for each role and encoding."""
    inspect = document["inspect"]
    rows = []
    for row in inspect["roles"]:
        coded = row["strategy"] != "none"
        block = "x".join(map(str, row["block"])) if row["block"] else ""
        scale = f"{row['scale_dtype']} {row['scale_suffix'].lstrip('._')}" if row["scale_suffix"] else ""
        rows.append((row["role"], Markup(chip(row["kind"], row["dtype"])), row["strategy"] if coded else "", block, scale,
                     row["count"], row["parameters"], row["bytes"]))
    total = ("total", "", "", "", "", sum(row["count"] for row in inspect["roles"]), inspect["parameters"], inspect["bytes"])
    body = table(("role", "dtype", "scaled by", "block", "scale", "weights", "parameters", "bytes"), rows, "Table of weights by role", (5, 6, 7), total)
    return section("inspect", "Weights by role", body, document["commands"].get("inspect", ""))


def claims(document: dict[str, Any]) -> str:
    """What the config says, and where the files say otherwise."""
    held = document["inspect"]["claims"]
    rows = [(word, _value(held[key])) for key, word in CLAIMED if held.get(key) is not None]
    if held["source"] is None:
        rows = [("quantization", "none claimed")]
    if held["skip"]:
        more = len(held["skip"]) - SHOWN
        names = "".join(f'<li class="mono">{text_of(name)}</li>' for name in held["skip"][:SHOWN])
        rest = f"<li>and {more:,} more</li>" if more > 0 else ""
        rows.append((held["skip_key"] or "not quantized", Markup(f'<ul class="names">{names}{rest}</ul>')))
    if held["mtp_modules"]:
        rows.append(("MTP modules", str(held["mtp_modules"])))
    source = f"Claimed in <code>{text_of(held['source'])}</code>." if held["source"] else ""
    told = table(("claim", "value"), rows, "Table of claims")
    return section("claims", "What the config claims", f"{told}<h3>Where the files differ</h3>{_differences(document['inspect'])}", intro=source)


def _value(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _differences(inspect: dict[str, Any]) -> str:
    items = []
    for found in inspect["disagreements"]:
        sign = icon("note") + " note: " if found["level"] == "note" else icon("warning") + " "
        times = f" ({found['count']:,} times)" if found["count"] > 1 and found["code"] not in ("mtp-absent", "claim-missing") else ""
        place = f' <span class="quiet-text mono">{text_of(found["where"])}</span>' if found["where"] else ""
        hint = f'<br><span class="quiet-text">{text_of(found["hint"])}</span>' if found["hint"] else ""
        items.append(f"<li>{sign}{text_of(found['message'])}{times}{place}{hint}</li>")
    return f'<ul class="plain">{"".join(items)}</ul>' if items else f'<p class="clean">{icon("good")} Nowhere.</p>'


def verify(document: dict[str, Any]) -> str:
    """The proof of `--against`: how many weights are how equal, and the least equal ones."""
    held = document["verify"]
    part = f" (a sample of {held['sampled']:,})" if held["sampled"] else ""
    error = "" if held["total_sqnr_db"] is None else f", total SQNR {held['total_sqnr_db']:.2f} dB"
    within = ", each within the bound of the step that made it" if held["grades"]["bounded"] else ""
    same = f"{icon('good')} The same weights{within}" if held["ok"] else f"{icon('error')} Not the same weights"
    verdict = f"{same}: {count(held['weights'], 'weight')}{part}{error}"
    sides = table(("side", "checkpoint", "layout"), [("A", held["a"], held["layouts"][0]), ("B", held["b"], held["layouts"][1])], "The two checkpoints")
    grades = table(("grade", "weights", "meaning"), [(name, held["grades"][name], says) for name, says in GRADES], "Grades", (1,))
    body = f'<p class="clean">{verdict}</p>{sides}<h3>Grades</h3>{grades}{_least(held)}{_lacking(held)}'
    return section("verify", "Verify", body, document["commands"].get("verify", ""))


def _least(held: dict[str, Any]) -> str:
    """The least equal weights: those that are wrong first, then by their error."""
    worst = sorted(held["least_equal"], key=lambda r: (r["grade"] != "wrong", r["sqnr_db"] if r["sqnr_db"] is not None else -1e9))[:SHOWN]
    if not worst:
        return ""
    head = ("weight", "grade", "SQNR dB", "largest relative error", "equal values", "first wrong value")
    rows = [(Markup(f'<span class="mono">{text_of(r["name"])}</span>'), r["grade"], _number(r["sqnr_db"], ".2f"), _number(r["max_relative_error"], ".3g"),
             f"{100 * r['equal_share']:.4f} %", r["first"] or "") for r in worst]
    shown = len(head) if any(row[-1] for row in rows) else len(head) - 1
    return "<h3>The least equal</h3>" + table(head[:shown], [row[:shown] for row in rows], "The least equal weights", (2, 3, 4))


def _lacking(held: dict[str, Any]) -> str:
    out = []
    for key, title in (("missing", "Missing in B"), ("surplus", "Surplus")):
        if held[key]:
            names = "".join(f'<li class="mono">{text_of(name)}</li>' for name in held[key][:SHOWN])
            more = f"<li>and {len(held[key]) - SHOWN:,} more</li>" if len(held[key]) > SHOWN else ""
            out.append(f'<h3>{title}</h3><ul class="names">{names}{more}</ul>')
    return "".join(out)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def architecture(document: dict[str, Any]) -> str:
    """The picture of `draw`, in a box that scrolls; what one token uses and keeps, as text."""
    draw = document["draw"]
    facts = []
    active, cache = draw.get("active"), draw.get("cache")
    if active:
        facts.append(f"One token uses {active['parameters']:,} parameters ({100 * active['share']:.1f} % of them), {size(active['bytes'])}.")
    if cache:
        facts.append(f"One token keeps {size(cache['bytes_per_token'])} of keys and values in {text_of(cache['dtype'])}.")
    picture = f'<div class="wide picture" role="region" tabindex="0" aria-label="Picture of the architecture">{draw_svg.svg(draw, inside_page=True)}</div>'
    return section("architecture", "Architecture", picture, document["commands"].get("draw", ""), " ".join(facts))

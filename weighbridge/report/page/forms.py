"""Sections that the script brings to life: memory of one rank, and the search. Their controls and labels are here, their values come from the data."""

from __future__ import annotations

from typing import Any

from weighbridge.report.page.parts import icon, section, text_of
from weighbridge.report.svg import attribute
from weighbridge.report.units import count, size

PARTS = (("attention", "attention"), ("experts", "experts"), ("rest", "everything else"), ("cache", "key/value cache"))


def memory(document: dict[str, Any]) -> str:
    """Bytes of one rank as one drags TP and EP, against the memory of a device, and what `check` says of that cut."""
    held = document["memory"]
    intro = ("What the fullest rank holds: its share of the weights, and its key/value cache. Activations, graphs and the runtime itself come on top; "
             "files do not tell them.")
    shapes = "".join(f'<template id="shape-{s}">{icon(s)}</template>' for s in ("error", "warning", "note"))
    body = f'{shapes}{_controls(held)}{_answer()}<h3>All cuts</h3><p id="cuts-says" class="quiet-text"></p><div id="cuts-box"></div>'
    nothing = "<noscript><p>The numbers of this section need JavaScript. It runs from this file alone.</p></noscript>"
    return section("memory", "Memory per rank", f'{nothing}<div class="needs-script">{body}</div>', intro=intro)


def _controls(held: dict[str, Any]) -> str:
    readers = "".join(f"<option>{text_of(name)}</option>" for name in held["runtimes"])
    dealt = "" if held["experts"] else " hidden"
    devices = "".join(f'<option value={attribute(d["name"])}>{text_of(d["name"])} ({size(d["bytes"])})</option>' for d in held["devices"])
    return f"""<div class="controls" role="group" aria-label="Cut, device and load">
<p><label for="runtime">Reader</label><select id="runtime">{readers}</select></p>
<p class="slide"><label for="tp">Tensor parallel (TP) <output id="tp-value" for="tp"></output></label><input type="range" id="tp" min="0" step="1" value="0"></p>
<p class="slide"{dealt}><label for="ep">Expert parallel (EP) <output id="ep-value" for="ep"></output></label><input type="range" id="ep" min="0" step="1" value="0"></p>
<p><label for="device">Device</label><select id="device">{devices}<option value="">other</option></select></p>
<p><label for="device-memory">Its memory, GB</label><input type="number" id="device-memory" min="0" step="any" inputmode="decimal"></p>
<p><label for="context">Context, tokens</label><input type="number" id="context" min="0" step="1" inputmode="numeric" value="{held["context"]:d}"></p>
<p><label for="batch">Batch, sequences</label><input type="number" id="batch" min="1" step="1" inputmode="numeric" value="{max(1, held["batch"]):d}"></p>
</div>"""


def _answer() -> str:
    bars = "".join(f'<i class="m-{name}" data-part="{name}"></i>' for name, _ in PARTS)
    parts = "".join(f'<div><dt><i class="swatch m-{name}"></i> {words}</dt><dd data-part="{name}"></dd></div>' for name, words in PARTS)
    return f"""<div class="card answer"><p id="rank-cut" class="quiet-text"></p><p><output id="rank-total" for="tp ep runtime device context batch"></output></p>
<div class="stack" aria-hidden="true"><div id="rank-bar">{bars}</div><b id="rank-limit"></b></div><dl id="rank-parts" class="parts">{parts}</dl></div>
<div id="rank-finding" role="status" aria-live="polite"></div>"""


def tensors(document: dict[str, Any]) -> str:
    """Search for any tensor, and its way through the plan."""
    held, ways = document["tensors"], document["ways"]
    told = "".join(f'<p class="quiet-text">No way is shown: {text_of(n["reason"])}</p>' for n in document.get("notes", ()) if n["part"] == "ways")
    way = f" and its way to the layout {text_of(ways['to'])}" if ways else ""
    intro = f"{count(held['total'], 'tensor')} in {count(len(held['files']), 'file')}: choose one to see its dtype, shape and file{way}."
    body = """<div class="needs-script"><label for="search">Name, or parts of it</label>
<input id="search" type="search" autocomplete="off" spellcheck="false" autocapitalize="off" aria-describedby="search-hint">
<p id="search-hint" class="quiet-text">Several words find names that hold all of them. A dot at the end keeps <code>layers.6.</code> from finding layer 60.</p>
<p id="search-count" role="status" aria-live="polite"></p><div class="search"><ul id="search-results" role="list" aria-label="Tensors that were found"></ul>
<div id="tensor" role="region" aria-label="The chosen tensor" tabindex="-1"><p class="quiet-text">No tensor is chosen.</p></div></div></div>
<noscript><p>The search needs JavaScript. It runs from this file alone. <code>weighbridge inspect SRC --tensors</code> prints the names.</p></noscript>"""
    return section("tensors", "Tensors", told + body, intro=intro)

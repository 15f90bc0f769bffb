"""The page of `draw`: the pictures, and everything in them as text: the tree as a list that folds, the conversion as a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weighbridge.report import palette, webpage
from weighbridge.report.draw import flow_svg
from weighbridge.report.draw import svg as draw_svg
from weighbridge.report.draw.pieces import Node, leaves, parameters, shape_text
from weighbridge.report.svg import attribute, text_of
from weighbridge.report.units import count, size

OPEN, DEEPEST = 3, 40  # levels that are unfolded at first; levels that are nested at all
STYLE = """.picture{margin:14px 0 8px}.picture svg{display:block;min-width:960px;width:100%}
.tree,.tree ul{list-style:none;margin:0;padding:0}.tree ul{padding-left:18px;margin-left:6px;border-left:1px solid var(--line)}
.tree summary{cursor:pointer;border-radius:5px;padding:3px 6px}.tree summary:hover,.leaf:hover{background:var(--panel)}.leaf{padding:3px 6px 3px 22px}
.tree .name{font-weight:650;overflow-wrap:anywhere}.tree .more{color:var(--quiet);font-size:13px;margin-left:8px}.tree .chip{margin-left:8px}
.steps table{width:100%;font-size:13.5px}.steps .name{font-weight:650}.steps .more{color:var(--quiet);font-size:12.5px}.steps td.n{white-space:nowrap}
.tree .wrong,.fault{color:var(--error)}.tools{display:flex;gap:8px;margin:8px 0}
@media print{.picture svg{min-width:0}}"""
TOOLS = ('<div class="tools no-print"><button type="button" data-unfold="yes">Unfold all</button>'
         '<button type="button" data-unfold="no">Fold all</button></div>')
SCRIPT = """document.querySelectorAll("[data-unfold]").forEach(button=>button.addEventListener("click",()=>{
document.querySelectorAll(".tree details").forEach(one=>{one.open=button.dataset.unfold==="yes"})}));"""


def html(document: dict[str, Any]) -> str:
    """One self-contained page. Values are text; the tree opens and closes by keyboard."""
    flow = document.get("flow")
    parts = [f'<p class="quiet-text">{text_of(document["source"])}, {parameters(document["parameters"])} parameters, {size(document["bytes"])}</p>']
    if flow:
        parts.append(f"<h2>The conversion to {text_of(flow['to'])}</h2>{_picture(flow_svg.svg(document, inside_page=True), 'conversion')}")
    rank = document.get("rank")
    if rank:
        parts.append("".join(f'<p class="fault">Does not run: {text_of(fault)}</p>' for fault in rank["faults"]))
    title = f"One rank of {rank['runtime']}" if rank else "The architecture"
    parts.append(f"<h2>{text_of(title)}</h2>{_picture(draw_svg.svg(document, inside_page=True), 'architecture')}")
    if flow:
        parts.append(_steps(flow))
    parts += ["<h2>The tree</h2>", TOOLS, f'<ul class="tree">{"".join(_item(document, 0))}</ul>']
    return webpage.page(f"{document['name']}: drawing", "\n".join(parts), style=STYLE, script=SCRIPT)


def _picture(svg: str, name: str) -> str:
    """A picture in a region that scrolls sideways where it is too wide; the keyboard reaches it."""
    return f'<div class="picture wide" tabindex="0" role="region" aria-label={attribute("picture of the " + name)}>{svg}</div>'


def _item(node: Node, depth: int) -> Iterator[str]:
    """A list item: a weight, or a part that folds."""
    if not node["children"]:
        yield f'<li><div class="leaf">{_told(node)}</div></li>'
        return
    if depth >= DEEPEST:  # deeper, only the weights
        for leaf, name in leaves(node, node["name"]):
            yield f'<li><div class="leaf">{_told({**leaf, "name": name})}</div></li>'
        return
    yield f'<li><details{" open" if depth < OPEN else ""}><summary>{_told(node)}</summary><ul>'
    for child in node["children"]:
        yield from _item(child, depth + 1)
    yield "</ul></details></li>"


def _told(node: Node) -> str:
    """One line: name, shape with its axes, encoding, parameters and bytes, a rank's share, what does not fit."""
    many = f" × {node['count']:,}" if node["count"] > 1 else ""
    out = [f'<span class="name">{text_of(node["name"])}{many}</span>']
    if node["shape"] is not None:
        axes = f" ({' × '.join(node['axes'])})" if node["axes"] else ""
        out.append(f'<span class="more">{text_of(shape_text(node["shape"]) + axes)}</span>')
    if node["encoding"]:
        # The kind is a class: only a known one may be.
        kind = node["encoding"]["kind"] if node["encoding"]["kind"] in palette.KINDS else "plain"
        out.append(f'<span class="chip b-{kind}">{text_of(node["encoding"]["text"])}</span>')
    out.append(f'<span class="more">{count(node["parameters"], "parameter")}, {size(node["bytes"])}</span>')
    # The root's key `rank` holds the degrees.
    held = node.get("rank") if "schema" not in node else None
    if held:
        words = [shape_text(held["shape"])] * (held["shape"] is not None) + [size(held["bytes"])] + [held["how"]] * bool(held["how"])
        out.append(f'<span class="more">one rank: {text_of(", ".join(words))}</span>')
    if node.get("problem"):
        out.append(f'<span class="wrong"> {text_of(node["problem"])}</span>')
    return "".join(out)


def _group(group: dict[str, Any]) -> str:
    return f'<span class="name">{text_of(group["name"])}</span><br><span class="more">{text_of(group["encoding"]["text"])}</span>'


def _steps(flow: dict[str, Any]) -> str:
    """The bands as a table, and what is left out."""
    rows = []
    for band in flow["bands"]:
        source, target = flow["source"][band["from"]], flow["destination"][band["to"]]
        cells = [_group(source), _group(target), text_of(band["step"] + (", turned" if band["turned"] else "")), text_of(band["bound"])]
        numbers = [f"{band['tensors']:,}", size(band["bytes_read"]), size(band["bytes_written"])]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "".join(f'<td class="n">{cell}</td>' for cell in numbers) + "</tr>")
    lost = "".join(f"<li>{text_of(row['name'])} ({count(row['tensors'], 'tensor')}): {text_of(row['reason'])}</li>" for row in flow["dropped"])
    heads = "".join(f"<th>{word}</th>" for word in ("from", "to", "step", "bound")) + "".join(f'<th class="n">{word}</th>' for word in ("tensors", "read", "written"))
    return (f'<h2>The steps</h2><div class="wide steps" tabindex="0" role="region" aria-label="table of the steps"><table><thead><tr>{heads}</tr></thead>'
            f'<tbody>{"".join(rows)}</tbody></table></div>' + (f"<h3>Left out</h3><ul>{lost}</ul>" if lost else ""))

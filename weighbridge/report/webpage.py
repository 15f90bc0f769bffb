"""One self-contained page: no network, no external script, opens by a double click. Data goes in as JSON that cannot end its element."""

from __future__ import annotations

from typing import Any

from weighbridge.report import jsontext, palette, svg

# Nothing may be fetched; the page's own style and script are inline. A name from a checkpoint that slipped through as markup could load nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

STYLE = """*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main,.bar{max-width:1180px;margin:0 auto;padding:0 20px}.bar{display:flex;gap:16px;align-items:baseline;flex-wrap:wrap;padding-top:18px}
.bar h1{font-size:22px;margin:0;overflow-wrap:anywhere;flex:1 1 auto}h2{font-size:18px;margin:36px 0 10px}h3{font-size:15px;margin:22px 0 6px}
a{color:var(--accent)}button,input,select{font:inherit;color:var(--ink);background:var(--panel);border:1px solid var(--quiet);border-radius:6px;padding:5px 10px}
button{cursor:pointer}:focus-visible{outline:3px solid var(--accent);outline-offset:2px}code,pre,.mono{font-family:ui-monospace,"SF Mono",Menlo,Consolas,monospace;font-size:13px}
pre{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:12px;overflow-x:auto}table{border-collapse:collapse}
th,td{border-bottom:1px solid var(--line);padding:4px 10px;text-align:left;vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}.quiet-text{color:var(--quiet)}svg{max-width:100%;height:auto}.skip{position:absolute;left:-9999px}.skip:focus{left:20px;top:8px;background:var(--paper);padding:6px}
.chip{display:inline-block;border-width:1px;border-style:solid;border-radius:5px;padding:0 7px;font-size:12.5px}
.hidden-text{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
footer{max-width:1180px;margin:48px auto 24px;padding:0 20px;color:var(--quiet);font-size:13px}
@media screen{.wide{--veil:color-mix(in srgb,var(--ink) 20%,transparent);background:linear-gradient(90deg,var(--paper) 40%,transparent) 0 0/48px 100% no-repeat local,linear-gradient(270deg,var(--paper) 40%,transparent) 100% 0/48px 100% no-repeat local,
linear-gradient(90deg,var(--veil),transparent) 0 0/14px 100% no-repeat scroll,linear-gradient(270deg,var(--veil),transparent) 100% 0/14px 100% no-repeat scroll}}
@media print{.no-print{display:none!important}body{font-size:11px}h2{break-after:avoid}svg,table,.card{break-inside:avoid}pre{white-space:pre-wrap}}"""

THEME = """(()=>{const root=document.documentElement,button=document.getElementById("theme");
const dark=()=>root.dataset.theme?root.dataset.theme==="dark":matchMedia("(prefers-color-scheme: dark)").matches;
const show=()=>{button.textContent=dark()?"Light":"Dark";button.setAttribute("aria-label","Switch to "+(dark()?"light":"dark")+" colours")};
button.addEventListener("click",()=>{root.dataset.theme=dark()?"light":"dark";show()});show()})();"""


def page(title: str, body: str, *, style: str = "", script: str = "", data: Any = None, foot: str = "", lang: str = "en") -> str:
    """A whole HTML document. `body` is markup that the caller has escaped (`svg.text_of`); `title` is text.

    `data` is read by the script as `JSON.parse(document.getElementById("data").textContent)`.
    """
    held = f'<script type="application/json" id="data">{embedded(data)}</script>' if data is not None else ""
    return f"""<!doctype html>
<html lang="{lang}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{svg.text_of(title)}</title>
<style>{palette.for_page()}{palette.html_rules()}{svg.BASE}{STYLE}{style}</style></head>
<body><a class="skip no-print" href="#main">Skip to the content</a>
<header class="bar"><h1>{svg.text_of(title)}</h1><button id="theme" class="no-print" type="button">Dark</button></header>
<main id="main">{body}</main>
<footer>{foot}</footer>{held}<script>{THEME}{script}</script></body></html>
"""


def embedded(data: Any) -> str:
    """JSON for a script element: `<`, `>` and `&` are escapes, so that no text in it can end the element or begin a comment."""
    return jsontext.compact(data).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")

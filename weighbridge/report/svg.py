"""Elements of a picture. The same input gives the same bytes: numbers have two decimals at most, nothing depends on a set's order or on time.

Colours come as classes of `palette`: a file of its own carries the rules, a picture inside a page uses the page's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from xml.sax.saxutils import escape, quoteattr

from weighbridge.report import palette
from weighbridge.report.visible import visible

BASE = ("text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif;stroke:none}.small{font-size:11px}.head{font-size:16px;font-weight:650}"
        ".bold{font-weight:650}.mono{font-family:ui-monospace,'SF Mono',Menlo,Consolas,monospace;font-size:12px}"
        ".mid{text-anchor:middle}.end{text-anchor:end}.none{fill:none}.thin{stroke-width:1}.thick{stroke-width:2}")
_ILLEGAL = {code: "\ufffd" for code in (*range(0x20), 0x7F, 0xFFFE, 0xFFFF, *range(0xD800, 0xE000)) if code not in (9, 10, 13)}


_COMMAND = re.compile(r"^\s*::|##\[")  # see `visible.lines`; here as entities


def text_of(words: object) -> str:
    """Other people's text as XML text: control characters made visible, markup escaped, nothing that XML forbids, no command to a CI runner."""
    return _COMMAND.sub(lambda m: m[0].replace(":", "&#58;").replace("[", "&#91;"), escape(visible(str(words)).translate(_ILLEGAL)))


def attribute(words: object) -> str:
    """The same as a quoted attribute."""
    return quoteattr(visible(str(words)).translate(_ILLEGAL)).replace("##[", "##&#91;")


@lru_cache(4096)
def classed(classes: str) -> str:
    """The value of a class attribute. Its words are ours; one that came from a document is no way out of the attribute."""
    return attribute(classes)


def number(value: float) -> str:
    """A coordinate: two decimals at most, no trailing zeros, no `-0`."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) >= 0.005 else "0"


def text(x: float, y: float, words: object, classes: str = "ink") -> str:
    return f'<text class={classed(classes)} x="{number(x)}" y="{number(y)}">{text_of(words)}</text>'


def rect(x: float, y: float, width: float, height: float, classes: str, *, round: float = 0, title: object = None, extra: str = "") -> str:
    """A rectangle; `title` is what a pointer over it, and a screen reader, tells."""
    inside = f"><title>{text_of(title)}</title></rect>" if title is not None else "/>"
    corner = f' rx="{number(round)}"' if round else ""
    return f'<rect class={classed(classes)} x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"{corner}{extra}{inside}'


def line(x1: float, y1: float, x2: float, y2: float, classes: str = "s-line", extra: str = "") -> str:
    return f'<line class={classed(classes)} x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"{extra}/>'


def path(d: str, classes: str, *, title: object = None, extra: str = "") -> str:
    inside = f"><title>{text_of(title)}</title></path>" if title is not None else "/>"
    return f'<path class={classed(classes)} d="{d}"{extra}{inside}'


def group(body: Iterable[str], *, label: object = None, classes: str = "") -> str:
    """Elements that belong together; `label` names them to a screen reader."""
    named = f" role=\"group\" aria-label={attribute(label)}" if label is not None else ""
    return f"<g{f' class={classed(classes)}' if classes else ''}{named}>{''.join(body)}</g>"


def picture(width: float, height: float, title: object, body: Iterable[str], *, says: object = "", style: str = "", inside_page: bool = False,
            name: str = "picture") -> str:
    """A whole SVG. `title` and `says` are its name and its description for who cannot see it; `name` makes their ids unique in a page.

    `inside_page`: without the palette's rules, which the page has, and without paper.
    """
    rules = style if inside_page else palette.standalone() + BASE + style
    paper = "" if inside_page else rect(0, 0, width, height, "paper")
    described = f' aria-describedby="{name}-d"' if says else ""
    told = f'<desc id="{name}-d">{text_of(says)}</desc>' if says else ""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" role="img" aria-labelledby="{name}-t"{described}>'
            f'<title id="{name}-t">{text_of(title)}</title>{told}{f"<style>{rules}</style>" if rules else ""}{paper}' + "\n".join(body) + "</svg>\n")


def legend(x: float, y: float, kinds: Iterable[str], step: float = 86) -> str:
    """One swatch with its word for each kind of encoding, from left to right."""
    words, out = palette.names(), []
    for place, kind in enumerate(kinds):
        left = x + place * step
        out.append(rect(left, y, 14, 14, f"e-{kind}", round=3) + text(left + 20, y + 11.5, words[kind], "small quiet"))
    return group(out, label="legend")

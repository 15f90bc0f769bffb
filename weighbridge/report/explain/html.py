"""`explain` as a page that opens by a double click: picture, tables and text, in light and dark, without a script beyond the theme switch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from weighbridge.lessons.term import blocks as blocks_of
from weighbridge.report import svg, webpage
from weighbridge.report.explain import format_svg, format_text, scheme_svg, scheme_text, term_svg

STYLE = """main{max-width:860px}.bar{max-width:860px}footer{max-width:860px}figure{margin:18px 0}
figcaption{font-weight:650;margin:0 0 6px}.wide svg{min-width:640px;display:block}
main p,main li{max-width:74ch;overflow-wrap:anywhere}.lead{font-size:17px}table{font-size:14px}.formula{margin:8px 0 8px 22px}summary{cursor:pointer;margin:8px 0}
ul{padding-left:22px}li{margin:4px 0}.codes td{padding:1px 10px}.words td:first-child{white-space:nowrap}
th[scope=row]{font-weight:400;color:var(--quiet)}
.see code{white-space:nowrap}"""
PLAIN = {"format": format_svg.picture, "wide-format": format_svg.picture, "container": format_svg.picture}
SCHEMES = ("scheme", "element")
FOOT = "Made by weighbridge explain."
COMPUTED = " The numbers are computed for this page, from the codec, from published sizes, and from one block of Gaussian weights."
Link = Callable[[str], str]  # a word of See also -> its address in a site, or an empty text


def page(document: dict[str, Any]) -> str:
    """The whole page of a rule, a term, a format, or a list."""
    return webpage.page(title(document), body(document), style=STYLE, foot=FOOT + COMPUTED * (document.get("kind") in ("term", *PLAIN, *SCHEMES)))


def title(document: dict[str, Any]) -> str:
    if "code" in document:
        return f"{document['code']} {document['name']}"
    named = {"terms": "What explain knows", "formats": "Number formats and schemes", "rules": "Rules of check", "skip-list": "Skip lists, reader by reader"}
    return named.get(document["what"], document["what"])


def body(document: dict[str, Any], link: Link | None = None) -> str:
    """What stands below the title, as markup; a site can put it into a page of its own, and `link` its words."""
    kind = document.get("kind", "rule")
    if kind == "term":
        return _term(document, link)
    if kind in PLAIN:
        return _format(document, link)
    if kind in SCHEMES:
        return _scheme(document, link)
    if kind in ("terms", "formats"):
        made = ""
        for key, heading in (("formats", "Number formats"), *((("terms", "Terms"),) if kind == "terms" else ())):
            rows = [(row["name"], row["says"]) for row in document[key]]
            made += _section(heading, _table(("word", "what it is"), rows, "words", mono=(0,), label=heading))
        if kind == "formats":
            made += _section("Schemes", _table(scheme_text.LIST_HEAD, scheme_text.list_rows(document), "words", mono=(0,), label="Schemes"))
        return made + "<p>Ask for one with <code>weighbridge explain WORD</code>.</p>"
    if "rules" in document:
        rows = [(r["code"], r["name"], r["severity"], ", ".join(r["runtimes"]) or "the files", r["says"]) for r in document["rules"]]
        return _table(("code", "name", "severity", "runtimes", "what it says"), rows, "words", mono=(0,))
    if "readers" in document:
        return _table(("reader", "an entry is", "read in"), [(r["reader"], r["way"], r["read_in"]) for r in document["readers"]], "words", mono=(0,))
    return _rule(document)


def inline(words: str) -> str:
    """Text as markup: escaped, and `words` in backticks as code."""
    return re.sub(r"(\d) %", "\\1\u00a0%", re.sub(r"`([^`]+)`", r"<code>\1</code>", svg.text_of(words)))


def _term(document: dict[str, Any], link: Link | None) -> str:
    parts = [f'<p class="lead">{inline(_sentence(document["says"]))}</p>']
    for place, (heading, blocks) in enumerate(document["sections"].items()):
        parts.append(_section(heading, _blocks(blocks)))
        if place == 0 and "figure" in document:
            parts.append(_figure(term_svg.picture(document, inside_page=True), document["figure"]["title"], document["figure"]["title"]))
    return "".join(parts) + _end(document, link)


def _format(document: dict[str, Any], link: Link | None) -> str:
    rows = format_text.container_facts(document) if document["kind"] == "container" else format_text.facts(document)
    parts = [f'<p class="lead">{inline(_sentence(document["says"]))}</p>',
             _figure(PLAIN[document["kind"]](document, inside_page=True), f"{document['what']}: all its values" if document["kind"] == "format"
                     else document["what"]),
             _section("In numbers", _pairs(rows))]
    parts += [_section(heading, f"<p>{inline(told)}</p>") for heading, told in format_text.words(document)]
    for heading, head, cells in format_text.tables(document):
        made = _table(head, cells, "codes mono")
        if heading == "All codes":
            parts.append(f"<h2>All codes</h2><details><summary>{len(cells)} codes with their bits and values</summary>{made}</details>")
        elif heading == "One group by hand":
            before, after = inline(format_text.worked_words(document)), inline(format_text.worked_end(document))
            parts.append(_section(heading, f"<p>{before}</p>{made}<p>{after}</p>"))
        else:
            parts.append(_section(heading, made))
    return "".join(parts) + _end(document, link)


def _scheme(document: dict[str, Any], link: Link | None) -> str:
    """The page of a scheme or an element."""
    parts = [f'<p class="lead">{inline(_sentence(document["says"]))}</p>',
             _figure(scheme_svg.picture(document, inside_page=True), document["what"]), _section("In numbers", _pairs(scheme_text.facts(document)))]
    rows = scheme_text.tables(document)
    first = 1 if document["kind"] == "scheme" else 0
    parts += [_section(heading, _table(head, cells, "words", label=heading)) for heading, head, cells in rows[:first]]
    for heading, words, lines in scheme_text.lists(document):
        told = "\n".join(svg.text_of(line) for line in lines)
        parts.append(_section(heading, f'<p>{inline(words)}</p><div class="wide" tabindex="0" role="region" aria-label={svg.attribute(heading)}><pre>{told}</pre></div>'))
    for heading, head, cells in rows[first:]:
        lead = f"<p>{inline(scheme_text.EXACT_WORDS)}</p>" if heading == "Where it goes exactly" else ""
        parts.append(_section(heading, lead + _table(head, cells, "codes mono" if heading == "Codes" else "words", label=heading)))
    return "".join(parts) + _end(document, link)


def _rule(document: dict[str, Any]) -> str:
    read = "; ".join(f"{name}: {version}" for name, version in document["read_in"].items())
    facts = [("severity", document["severity"]), ("group", document["group"]), ("about", ", ".join(document["runtimes"]) or "the files alone"),
             ("read in", read or "-")]
    parts = [f'<p class="lead">{inline(_sentence(document["says"].rstrip(".")))}</p>', _pairs(facts)]
    return "".join(parts + [_section(heading, _blocks(blocks_of(told))) for heading, told in document["sections"].items()])


def _end(document: dict[str, Any], link: Link | None) -> str:
    made = []
    for word in document["see_also"]:
        address = link(word) if link else ""
        made.append(f"<a href={svg.attribute(address)}>{svg.text_of(word)}</a>" if address
                    else f"<code>weighbridge explain {svg.text_of(word)}</code>")
    return _section("See also", f'<p class="see">{", ".join(made)}</p>') + _section("References", f"<p>{inline(document['references'])}</p>")


def _sentence(says: str) -> str:
    return f"{says[:1].upper()}{says[1:]}."


def _section(heading: str, made: str) -> str:
    return f"<h2>{svg.text_of(heading)}</h2>{made}"


def _figure(picture: str, label: str, caption: str = "") -> str:
    told = f"<figcaption>{svg.text_of(caption)}</figcaption>" if caption else ""
    return f'<figure>{told}<div class="wide" tabindex="0" role="region" aria-label={svg.attribute(label)}>{picture}</div></figure>'


def _blocks(blocks: list[dict[str, Any]]) -> str:
    out = []
    for block in blocks:
        if block["kind"] == "list":
            out.append("<ul>" + "".join(f"<li>{inline(item)}</li>" for item in block["items"]) + "</ul>")
        elif block["kind"] == "formula":
            out.append(f'<p class="formula"><code>{svg.text_of(block["text"])}</code></p>')
        else:
            out.append(f"<p>{inline(block['text'])}</p>")
    return "".join(out)


def _pairs(rows: Sequence[tuple[str, str]]) -> str:
    return "<table>" + "".join(f'<tr><th scope="row">{svg.text_of(name)}</th><td>{inline(told)}</td></tr>' for name, told in rows) + "</table>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], classes: str, mono: tuple[int, ...] = (), label: str = "") -> str:
    top = "".join(f'<th scope="col">{svg.text_of(cell)}</th>' for cell in head)
    lines = ""
    for row in rows:
        cells = (f"<code>{inline(cell)}</code>" if place in mono else inline(cell) for place, cell in enumerate(row))
        lines += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    named = svg.attribute("table: " + (label or ", ".join(head)))
    return (f'<div class="wide" tabindex="0" role="region" aria-label={named}><table class="{classes}"><thead><tr>{top}</tr></thead>'
            f"<tbody>{lines}</tbody></table></div>")

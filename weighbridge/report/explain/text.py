"""`explain` for people: pages of rules, terms and formats, and lists of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from weighbridge.report.explain import format_text, scheme_text, term_text
from weighbridge.report import markdown as md
from weighbridge.report.table import text_table
from weighbridge.report.wrap import COLUMNS, wrapped

RULE_HEAD = ("code", "name", "severity", "runtimes", "what it says")
READER_HEAD = ("reader", "an entry is", "read in")
FORMATS = {"format": format_text.small_text, "wide-format": format_text.wide_text, "container": format_text.container_text,
           "scheme": scheme_text.text, "element": scheme_text.text}


def text(document: dict[str, Any]) -> str:
    """A page for the terminal. Raises KeyError for a document of another kind."""
    kind = document.get("kind", "rule")
    if kind in ("terms", "formats"):
        return terms_text(document)
    if kind == "term":
        return _joined([_named(document), *term_text.text(document), *see_also(document)])
    if kind in FORMATS:
        parts = [f"{heading}\n{_indented(body)}" if heading else _indented(body) for heading, body in FORMATS[kind](document)]
        return _joined([_named(document), *parts, *see_also(document)])
    if "rules" in document:
        return text_table(RULE_HEAD, _rules(document))
    if "readers" in document:
        return text_table(READER_HEAD, _readers(document))
    lines = [_title(document), _facts(document)]
    lines += [f"{heading}\n{_indented(body)}" for heading, body in document["sections"].items()]
    return _joined(lines)


def markdown(document: dict[str, Any]) -> str:
    """The same as Markdown."""
    kind = document.get("kind", "rule")
    if kind in ("terms", "formats"):
        last = f"## Terms\n\n{_listed(document, 'terms')}" if kind == "terms" else f"## Schemes\n\n{_table(scheme_text.LIST_HEAD, scheme_text.list_rows(document))}"
        return f"# What `explain` knows\n\n## Number formats\n\n{_listed(document, 'formats')}\n\n{last}"
    if kind == "term" or kind in FORMATS:
        made = {"term": term_text.markdown, "scheme": scheme_text.markdown, "element": scheme_text.markdown}
        body = made.get(kind, format_text.markdown)(document)
        return _joined([f"# {document['what']}", f"{document['says'][:1].upper()}{document['says'][1:]}.", *body,
                        f"## See also\n\n{', '.join(f'`weighbridge explain {word}`' for word in document['see_also'])}",
                        f"## References\n\n{document['references']}"])
    if "rules" in document:
        return _table(RULE_HEAD, _rules(document))
    if "readers" in document:
        return _table(READER_HEAD, _readers(document))
    lines = [f"# {_title(document)}", _facts(document)]
    lines += [f"## {heading}\n\n{body}" for heading, body in document["sections"].items()]
    return _joined(lines)


def terms_text(document: dict[str, Any]) -> str:
    """All words with a page, and how one asks for it."""
    parts = [f"{heading}\n" + "\n".join(wrapped(row["says"], indent=width + 4, first="  " + row["name"].ljust(width) + "  ") for row in document[key])
             for key, heading in (("formats", "Number formats"), *((("terms", "Terms"),) if document["kind"] == "terms" else ()))
             for width in [max(len(row["name"]) for row in document[key])]]
    if document["kind"] == "formats":
        parts.append("Schemes: how a weight is stored\n" + text_table(scheme_text.LIST_HEAD, scheme_text.list_rows(document)))
    hint = ("weighbridge explain WORD prints the page, explain WORD --html page.html makes it a page with its picture.\n"
            "weighbridge explain formats lists the schemes, explain rules the rules of check,\n"
            "explain skip-list the readers' ways of matching,\n"
            "explain SRC TENSOR works one real tensor by hand.")
    return _joined([*parts, hint])


def see_also(document: dict[str, Any]) -> list[str]:
    """The last two parts of a page."""
    return [f"See also\n{wrapped('weighbridge explain ' + ' | '.join(document['see_also']), indent=2)}",
            f"References\n{wrapped(document['references'], indent=2)}"]


def _named(document: dict[str, Any]) -> str:
    return wrapped(f"{document['what']}: {document['says']}", indent=2, first="", width=COLUMNS)


def _joined(parts: list[str]) -> str:
    return "\n\n".join(parts)


def _indented(body: str) -> str:
    return "\n".join("  " + line if line else "" for line in body.split("\n"))


def _listed(document: dict[str, Any], key: str) -> str:
    return _table(("word", "what it is"), [(row["name"], row["says"]) for row in document[key]])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells of our own pages: they are Markdown already, but for the pipe."""
    return md.rows(head, [False] * len(head), [[cell.replace("|", "\\|") for cell in row] for row in rows])


def _readers(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(r["reader"], r["way"], r["read_in"]) for r in document["readers"]]


def _rules(document: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(r["code"], r["name"], r["severity"], ", ".join(r["runtimes"]) or "the files", r["says"]) for r in document["rules"]]


def _title(document: dict[str, Any]) -> str:
    return f"{document['code']} {document['name']}: {document['says']}"


def _facts(document: dict[str, Any]) -> str:
    read = "; ".join(f"{name}: {version}" for name, version in document["read_in"].items())
    against = ", ".join(document["runtimes"]) or "the files alone"
    return f"{document['severity']}, group {document['group']}, about {against}" + (f"; read in {read}" if read else "")

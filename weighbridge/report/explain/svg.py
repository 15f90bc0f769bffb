"""`explain --format svg`: the picture of a format or of a term."""

from __future__ import annotations

from typing import Any

from weighbridge.errors import Usage
from weighbridge.report.explain import format_svg, scheme_svg, term_svg


def picture(document: dict[str, Any]) -> str:
    """The SVG of a page. Raises Usage where the page has none."""
    kind = document.get("kind", "rule")
    if kind in ("format", "wide-format", "container"):
        return format_svg.picture(document)
    if kind in ("scheme", "element"):
        return scheme_svg.picture(document)
    if kind == "term":
        return term_svg.picture(document)
    raise Usage(f"{document['what']} has no picture", "--format svg", "formats and some terms have one; --format html makes a page of everything")

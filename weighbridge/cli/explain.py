"""`weighbridge explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def explain(what: str, /, *, format: Literal["text", "json", "markdown"] = "text", output: Path | None = None) -> int:
    """A rule (WB101), all rules (rules), or how each reader matches a skip list (skip-list).

    Parameters
    ----------
    what
        The code or the name of a rule, rules, or skip-list.
    format
        text, json (schema weighbridge.explain/1) or markdown.
    output
        Write into this file instead of stdout.
    """
    from weighbridge.check.pages import document
    from weighbridge.report import explain_text
    from weighbridge.report.sink import emit

    told = document(what)
    emit(told, lambda: explain_text.text(told), lambda: explain_text.markdown(told), format, output)
    return 0

"""The only place that prints. stdout is the document, stderr is talk.

A document is shown to people in two steps. Its texts become `visible` before a renderer sees them, so that no name makes a line, a colour or
a command; and the finished lines are looked at once more, so that nothing that a terminal obeys leaves the program. JSON keeps the true
names in its own escapes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from weighbridge.version import __version__
from weighbridge.errors import Usage, WeighbridgeError
from weighbridge.report import jsontext, visible

FORMATS = ("text", "json", "markdown")
ENDINGS = {".md": "markdown", ".markdown": "markdown", ".json": "json", ".svg": "svg", ".html": "html", ".htm": "html"}


Renderer = Callable[[dict[str, Any]], str]


def emit(document: dict[str, Any], text: Renderer, markdown: Renderer | None = None, format: str = "text", output: Path | None = None, *,
         colour: bool = False) -> None:
    """Write a document in one format, to stdout or into the file `output`. Only the wanted form is made.

    `text` and `markdown` get the document with all of its texts made visible. `colour`: the text uses colours of our palette.
    """
    if format == "json":
        body = to_json(document)
    elif format == "markdown":
        if markdown is None:
            raise Usage("this verb has no Markdown form", "--format", "use --format text or --format json")
        body = visible.lines(markdown(visible.for_people(document)))
    elif format == "text":
        body = visible.lines(text(visible.for_people(document)), colour=colour)
    else:
        raise Usage(f"no format {format!r}; known are {', '.join(FORMATS)}", "--format")
    save_or_put(body, output)


def form(format: str | None, output: Path | None) -> str:
    """The form that is wanted: as `--format` says, else by the ending of the file, else text."""
    return format or (ENDINGS.get(output.suffix.lower(), "text") if output is not None else "text")


def save_or_put(body: str, output: Path | None) -> None:
    """A finished body to stdout, or into the file `output`: a form for machines, or what `visible.lines` gave."""
    if output is None:
        put(body)
    else:
        _save(output, body if body.endswith("\n") else body + "\n")


def to_json(document: dict[str, Any]) -> str:
    """One JSON document with `schema` and `version` in front."""
    if "schema" not in document:
        raise ValueError("a document needs a schema")
    return jsontext.pretty({"schema": document["schema"], "version": __version__, **document})


def put(body: str) -> None:
    """To stdout, as UTF-8 whatever the locale says; a name that is no valid text is escaped."""
    body = body if body.endswith("\n") else body + "\n"
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:  # a test's or a notebook's stdout
        sys.stdout.write(body)
        return
    sys.stdout.flush()
    stream.write(body.encode("utf-8", "backslashreplace"))
    stream.flush()


_flow = visible.Flow()


def stream(text: str) -> None:
    """A part of the document that appears while it is made: to stdout at once."""
    text = _flow(text)
    out = getattr(sys.stdout, "buffer", None)
    if out is None:
        sys.stdout.write(text)
    else:
        out.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.flush()


def talk(line: str) -> None:
    """A line for the person who waits: stderr, never in the document's way. Names in it are `visible` already; what steers a terminal is made so."""
    try:
        print(visible.lines(line), file=sys.stderr, flush=True)
    except BrokenPipeError:
        pass


def colour(stream: Any = None) -> bool:
    """Whether escape codes are welcome: a terminal, and NO_COLOR (no-color.org) not set."""
    stream = sys.stderr if stream is None else stream
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def _save(output: Path, body: str) -> None:
    if output.is_dir():
        raise WeighbridgeError("output", "is a folder", str(output), "give the name of a file to -o")
    try:
        output.write_bytes(body.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise WeighbridgeError("io", f"cannot be written: {error.strerror}", str(output), "give another file to -o") from error

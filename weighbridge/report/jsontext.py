r"""JSON that a terminal may print: the same data, with `\u` escapes for what would steer it."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from weighbridge.report.visible import seen


def compact(value: Any) -> str:
    """On one line. NaN and infinity are null, as JSON has no other word for them."""
    return _written(value, None)


def pretty(value: Any) -> str:
    """With one key a line."""
    return _written(value, 2)


def safe(body: str) -> str:
    """Finished JSON in which no text holds a control character, a mark that is not seen, or a command to a CI runner (`##[`)."""
    if not body.isascii() or "\x7f" in body:
        body = "".join(c if c == "\n" or seen(c) else _escape(c) for c in body)
    return body.replace("##[", "##\\u005b")


def _written(value: Any, indent: int | None) -> str:
    try:
        body = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a path that is no UTF-8: Python holds its bytes as half surrogates, and JSON has escapes for these
        return safe(json.dumps(_finite(msgspec.to_builtins(value)), indent=indent, separators=(", ", ": ") if indent else (",", ":")))
    return safe((msgspec.json.format(body, indent=indent) if indent else body).decode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escape(c: str) -> str:
    units = c.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))

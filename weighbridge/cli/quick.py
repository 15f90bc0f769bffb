"""Binds a plain command line to a verb without cyclopts, whose import would be a fifth of `inspect`.

The flags are the function's signature, as they are for cyclopts. Whatever is not plain (an unknown option, a missing
value, `--help`) is left to cyclopts, which says it better.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


def bind(verb: Callable[..., Any], words: Sequence[str], short: dict[str, str]) -> tuple[list[Any], dict[str, Any]] | None:
    """Arguments for `verb`, or None where cyclopts must look. `short` maps a parameter's name to its short flag."""
    parameters = inspect.signature(verb).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    flags = {"--" + p.name.strip("_").replace("_", "-"): p for p in parameters if p.kind is p.KEYWORD_ONLY}
    flags |= {short[p.name]: p for p in flags.copy().values() if p.name in short}
    hints = get_type_hints(verb, include_extras=True)
    places: list[Any] = []
    named: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if not word.startswith("-"):
            places.append(word)
            continue
        parameter = flags.get(flag)
        if parameter is None or parameter.name in named:
            return None
        if get_origin(hints[parameter.name]) is Annotated and hints[parameter.name].__metadata__ == ("flag",) and not equals:
            named[parameter.name] = True
            continue
        value = value if equals else next(rest, "-")
        if value.startswith("-"):
            return None
        named[parameter.name] = _read(hints[parameter.name], value)
        if named[parameter.name] is None:
            return None
    if len(places) != len(positional) or any(hints[p.name] is not str for p in positional):
        return None
    return places, named


def _read(hint: Any, value: str) -> Any:
    """`value` as a str, Path or Literal (or one of these or None); None where it is none of them."""
    if get_origin(hint) in (Union, UnionType):
        real = [h for h in get_args(hint) if h is not type(None)]
        hint = real[0] if len(real) == 1 else None
    if hint is str:
        return value
    if hint is int:
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
    if hint is Path:
        return Path(value)
    return value if get_origin(hint) is Literal and value in get_args(hint) else None

"""The JSON of a header, read word for word as the reference reader does. Slow, and the specification of what a header may say.

`header.py` decodes plain headers with msgspec and asks here as soon as anything is unusual. The reference is `SafeTensors::read_metadata` of
safetensors 0.8.0 over serde_json 1: integers are those of 64 bits, a number must be finite, at most 127 levels, no text with half a surrogate pair.
`tests/checkpoint/test_headers.py` compares both with the installed library; docs/headers.md lists where this reader is stricter, and why.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from itertools import accumulate
from typing import Any, NamedTuple

from weighbridge.checkpoint.dtypes import LARGEST
from weighbridge.errors import Problem, brief

METADATA = "__metadata__"
MOST_LEVELS = 127  # serde_json's limit of nesting
FIELDS = ("dtype", "shape", "data_offsets")
_AGAIN = "download the file again"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_LEVELS = bytes(1 if c in b"[{" else 255 for c in range(256))  # one up, one down, as signed bytes
_NO_BRACKETS = bytes(c for c in range(256) if c not in b"[]{}")


class Entry(NamedTuple):
    """What the header says of one tensor."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Members(list[tuple[str, Any]]):
    """The members of a JSON object in their order; equal names are all here."""


class _Wrong(ValueError):
    """The words of a refusal."""


class _OtherForm(_Wrong):
    """What the reference reads by its parser's leniency; the format does not know it."""


def parse(file: str, raw: bytes) -> tuple[dict[str, Entry], dict[str, str], list[Problem]]:
    """(entries by name, metadata, what is wrong with it)."""
    try:
        whole = _value(raw)
        if not isinstance(whole, _Members):
            raise _Wrong("it is no object")
        metadata = _metadata([value for name, value in whole if name == METADATA])
    except _Wrong as error:
        return {}, {}, [Problem("header-not-json", f"the header is not the JSON of safetensors: {error}", file, _AGAIN)]
    entries: dict[str, Entry] = {}
    problems = []
    for name, value in whole:
        where = f"{file}: {brief(name)}"
        if name == METADATA:
            continue
        if name in entries:
            problems.append(Problem("duplicate-name", "the header lists this name twice", where, "write the file again with one tensor for each name"))
        try:
            entries[name] = _entry(value)
        except _Wrong as error:
            code = "header-form" if isinstance(error, _OtherForm) else "header-entry"
            problems.append(Problem(code, f"the entry is not {{dtype, shape, data_offsets}}: {error}", where, _AGAIN))
    return entries, metadata, problems


def _value(raw: bytes) -> Any:
    if _deepest(raw) > MOST_LEVELS:
        raise _Wrong(f"it is nested more than {MOST_LEVELS} levels deep")
    try:
        whole = json.JSONDecoder(object_pairs_hook=_Members, parse_int=_integer, parse_float=_number, parse_constant=_constant).decode(raw.decode())
        if b"\\u" in raw:
            json.dumps(whole, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except UnicodeError as error:
        raise _Wrong(f"a text is no UTF-8 ({error.reason})") from None
    except json.JSONDecodeError as error:
        raise _Wrong(f"{error.msg} at character {error.pos:,}") from None
    except RecursionError:
        raise _Wrong("it is nested too deep") from None
    return whole


def _deepest(raw: bytes) -> int:
    """Levels of nesting; of a text that is no JSON any number."""
    brackets = _STRING.sub(b"", raw).translate(_LEVELS, _NO_BRACKETS)
    return max(accumulate(array("b", brackets)), default=0)


def _integer(digits: str) -> int | float:
    """An integer of 64 bits; any other one is a floating number, as `-0` is."""
    if len(digits) <= 20 and digits != "-0":
        value = int(digits)
        if -(1 << 63) <= value <= LARGEST:
            return value
    return _number(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Wrong(f"the number {brief(digits)} is out of range")
    return value


def _constant(word: str) -> float:
    raise _Wrong(f"{word} is no JSON")


def _metadata(values: list[Any]) -> dict[str, str]:
    if len(values) > 1:
        raise _Wrong(f"{METADATA} stands {len(values)} times in it")
    found = values[0] if values else None
    if found is None:
        return {}
    if not isinstance(found, _Members) or not all(isinstance(text, str) for _, text in found):
        raise _Wrong(f"{METADATA} is not a map of texts")
    return dict(found)


def _entry(value: Any) -> Entry:
    if not isinstance(value, _Members):
        raise (_OtherForm if isinstance(value, list) else _Wrong)("it is no object")
    found = []
    for field in FIELDS:
        values = [given for name, given in value if name == field]
        if len(values) != 1:
            raise _Wrong(f"{field} stands {len(values)} times in it" if values else f"{field} is missing")
        found.append(values[0])
    dtype, shape, offsets = found
    if not isinstance(dtype, str):
        raise (_OtherForm if isinstance(dtype, _Members) else _Wrong)("dtype is no text")
    if not _sizes(shape):
        raise _Wrong(f"shape is no list of whole numbers from 0 to {LARGEST:,}")
    if not _sizes(offsets) or len(offsets) != 2:
        raise _Wrong(f"data_offsets are not two whole numbers from 0 to {LARGEST:,}")
    return Entry(dtype, tuple(shape), (offsets[0], offsets[1]))


def _sizes(value: Any) -> bool:
    return type(value) is list and all(type(size) is int and size >= 0 for size in value)

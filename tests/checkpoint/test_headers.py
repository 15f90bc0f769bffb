"""The verdict on a header is that of the installed safetensors, or stricter for a reason that docs/headers.md gives."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import pytest
import safetensors

from tests.checkpoint.mutations import TEXTS, mutated
from weighbridge.checkpoint import header_json
from weighbridge.checkpoint.header import _plain, read_header
from weighbridge.errors import Problem

PAGE = Path(__file__).resolve().parents[2] / "docs" / "headers.md"
STRICTER = set(re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
# A bounded part in each run; WEIGHBRIDGE_MUTATIONS=40000 for the whole.
MUTATIONS = int(os.environ.get("WEIGHBRIDGE_MUTATIONS", "12000"))
ENTRY = '"dtype":"F32","shape":[2],"data_offsets":[0,8]'
NONE = '"dtype":"F32","shape":[%s],"data_offsets":[0,0]'


def file(header: str | bytes, data: int = 8) -> bytes:
    raw = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(data)


def reference(content: bytes) -> dict[str, tuple[list[int], int]] | None:
    """Name -> (shape, bytes) as the library reads it, or None where it refuses."""
    try:
        return {name: (tensor["shape"], len(tensor["data"])) for name, tensor in safetensors.deserialize(content)}
    except Exception:  # noqa: BLE001 its exceptions are of several kinds; all of them are a refusal
        return None


def ours(content: bytes) -> tuple[dict[str, tuple[list[int], int]] | None, list[Problem]]:
    header, problems = read_header("x.safetensors", len(content), lambda offset, length: content[offset : offset + length])
    assert (header is None) == bool(problems)
    return None if header is None else {name: (list(t.shape), t.nbytes) for name, t in header.tensors.items()}, problems


def compare(content: bytes) -> None:
    wanted, (found, problems) = reference(content), ours(content)
    if found is None and wanted is not None:
        assert {problem.code for problem in problems} <= STRICTER, (content[:2000], problems)
    else:
        assert found == wanted, (content[:2000], problems)


@pytest.mark.parametrize("part", range(10))
def test_mutated_headers_have_the_verdict_of_the_library(part):
    for seed in range(part * MUTATIONS // 10, (part + 1) * MUTATIONS // 10):
        compare(mutated(seed))


def test_the_mutations_are_of_all_kinds():
    """A generator whose files are all refused, or all taken, would show nothing."""
    files = [mutated(seed) for seed in range(5000)]
    taken = sum(reference(content) is not None for content in files)
    assert 0.1 < taken / len(files) < 0.85
    codes = {problem.code for content in files for problem in ours(content)[1]}
    assert codes >= {"header-not-json", "header-entry", "offsets", "size", "unknown-dtype", "header-longer-than-file", *STRICTER - {"name-length"}}


@pytest.mark.parametrize("key", ["dtype", "shape", "data_offsets", "x", "name", "file", "start"])
@pytest.mark.parametrize("text", TEXTS)
def test_every_value_in_every_key_of_an_entry(key, text):
    entry = {"dtype": '"F32"', "shape": "[2]", "data_offsets": "[0,8]"} | {key: text}
    body = ",".join(f'"{name}":{value}' for name, value in entry.items())
    compare(file(f'{{"a":{{{body}}}}}'))
    compare(file(f'{{"a":{{{body}}}}}', 0))
    compare(file(f'{{"a":{{{ENTRY},"{key}":{text}}}}}'))  # and beside the good one


@pytest.mark.parametrize("text", [*TEXTS, '{"a":"b"}', '{"a":"b","a":"c"}', '{"shape":"a","start":"b"}', '{"a":1}', '{"a":null}', '{"a":"}"}', '{"a":"\\""}'])
def test_every_value_as_metadata(text):
    for header in (f'{{"__metadata__":{text},"a":{{{ENTRY}}}}}', f'{{"a":{{{ENTRY}}},"__metadata__":{text}}}', f'{{"__metadata__":{text}"a":{{{ENTRY}}}}}',
                   f'{{"__metadata__":{text},"__metadata__":{text},"a":{{{ENTRY}}}}}', f'{{ "__metadata__" : {text} , "a":{{{ENTRY}}}}}'):
        compare(file(header))
    compare(file(f'{{"__metadata__":{text}}}', 0))
    compare(file(f'{{"__metadata__":{text},}}', 0))


@pytest.mark.parametrize("code, header, data", [
    ("duplicate-name", f'{{"a":{{{ENTRY}}},"a":{{{ENTRY}}}}}', 8), ("duplicate-name", f'{{"a":{{{ENTRY}}},"\\u0061":{{{ENTRY}}}}}', 8),
    ("header-form", '{"a":["F32",[2],[0,8]]}', 8), ("header-form", '{"a":{"dtype":{"F32":null},"shape":[2],"data_offsets":[0,8]}}', 8),
    ("name-length", f'{{"{"é" * 1001}":{{{ENTRY}}}}}', 8), ("name-length", f'{{"{"a." * 501}":{{{ENTRY}}}}}', 8),
    ("axes", f'{{"a":{{{NONE % ",".join(["0"] * 65)}}}}}', 0),
])
def test_where_weighbridge_is_stricter(code, header, data):
    assert reference(file(header, data)) is not None
    found, problems = ours(file(header, data))
    assert found is None and {problem.code for problem in problems} == {code} and code in STRICTER


def test_the_page_lists_what_is_stricter_and_no_more():
    assert STRICTER == {"duplicate-name", "header-form", "name-length", "axes"}


def test_the_fast_way_is_the_slow_one():
    """What msgspec decodes as plain is what the specification reads."""
    plain = 0
    for seed in range(MUTATIONS // 3):
        content = mutated(seed)
        raw = content[8 : 8 + int.from_bytes(content[:8], "little")]
        decoded = _plain(raw)
        if decoded is None:
            continue
        plain += 1
        entries, metadata, problems = header_json.parse("x", raw)
        negative = [t for t in decoded[0].values() if min(*t.data_offsets, *t.shape, 0) < 0 or max(*t.data_offsets, *t.shape, 0) >> 64]
        if negative:  # refused later, by its numbers
            assert ours(content)[0] is None and problems
            continue
        assert not problems and metadata == decoded[1]
        assert entries == {name: (t.dtype, t.shape, t.data_offsets) for name, t in decoded[0].items()}
    assert plain > MUTATIONS // 60


@pytest.mark.parametrize("header", ['{"__metadata__":{"format":"pt"},"a":{%s}}' % ENTRY, '{"a":{%s}}' % ENTRY, '{"a":{%s}}   ' % ENTRY,
                                    json.dumps({"a-b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})])
def test_headers_as_writers_write_them_go_the_fast_way(header):
    assert _plain(header.encode()) is not None

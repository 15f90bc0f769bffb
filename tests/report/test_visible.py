"""Characters: each one that a terminal obeys or hides is shown, text and JSON keep what they say."""

from __future__ import annotations

import json
import math
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.report import jsontext, visible
from weighbridge.report.visible import Flow, for_people, lines

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
WORDS = st.text(st.sampled_from(":#[\n \ta\x1b\u200d☃"), max_size=12)


def test_every_code_point() -> None:
    """All of Unicode, against the database that Python has of it."""
    every = list(map(chr, range(sys.maxunicode + 1)))
    said = visible.visible("".join(every[:128])) + "".join(visible.visible(c) for c in every[128:])
    assert not [hex(ord(c)) for c in set(said) if unicodedata.category(c) in HIDDEN or c in "\u2028\u202e\u200b\u00a0\u3164\ufe0f"]
    assert all(visible.visible(c) == c for c in every if unicodedata.category(c)[0] in "LNPS" and not visible._BLANK.match(c))
    body = "".join(every).replace("\n", "")
    assert all(unicodedata.category(c) not in HIDDEN for c in lines(body))
    assert {c for c in lines(body, prose=True) if unicodedata.category(c) in HIDDEN} == set("\t\u200c\u200d")


@pytest.mark.parametrize(("text", "seen"), [
    ("a\x1b[31mb\n", "a\\x1b[31mb\\n"), ("\r\t\x00\x7f\x9b", "\\r\\t\\x00\\x7f\\x9b"), ("\u202e\ufeff\U000e0041", "\\u202e\\ufeff\\U000e0041"),
    ("é ☃ 数 🎈", "é ☃ 数 🎈"), ("\udcff", "\\udcff"), ("x" * 20_000, "x" * 10_000 + "… (20,000 characters)"),
])
def test_escapes(text: str, seen: str) -> None:
    assert visible.visible(text) == seen


def test_a_document() -> None:
    held = {"a\n": ["\x1b", 1, None, ("\r",)], "fix": {"text": "\n", "value": ["\x1b"], "edits": []}}
    assert for_people(held) == {"a\\n": ["\\x1b", 1, None, ["\\r"]], "fix": {"text": "\\n", "value": ["\x1b"], "edits": []}}
    assert held["fix"]["text"] == "\n"


def test_only_our_colours_pass_and_only_where_colour_is_on() -> None:
    ours, others = "\x1b[1;31ma\x1b[0m", "\x1b[5ma\x1b[2J\x1b[31m\x1b]0;t\x07"
    assert lines(ours, colour=True) == ours and "\x1b" not in lines(ours) and "\x1b" not in lines(others, colour=True)


@pytest.mark.parametrize("text", ["::error::x", "a\n::error::x", "  ::set-output name=a::b", "\t::x", "a ##[error]b", "a\n##[group]"])
def test_no_line_is_a_command_to_a_runner(text: str) -> None:
    assert not obeyed(lines(text)) and obeyed(text)
    assert "##[" not in jsontext.compact([text]) and json.loads(jsontext.compact([text])) == [text]


def obeyed(text: str) -> bool:
    """As the runner of GitHub Actions reads it (ActionCommand.cs): `::` after blanks, `##[` anywhere."""
    return any(line.lstrip().startswith("::") or "##[" in line for line in text.split("\n"))


@given(st.lists(WORDS, max_size=6))
def test_pieces_give_what_the_whole_gives(pieces: list[str]) -> None:
    flow = Flow()
    assert "".join(flow(piece) for piece in pieces) == lines("".join(pieces), prose=True)


def test_a_long_line_in_pieces() -> None:
    flow = Flow()
    said = "".join(flow("x" * 60) for _ in range(9)) + flow("##") + flow("[error]") + flow(":") + flow(":\n:") + flow(":e")
    assert not obeyed(said) and len(flow.line) < 100


@given(st.recursive(st.text() | st.none() | st.integers(-9, 9), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9))
def test_json_is_the_same_data(value: object) -> None:
    for form in (jsontext.compact, jsontext.pretty):
        said = form(value)
        assert json.loads(said) == value and "##[" not in said
        assert not [c for c in said if c != "\n" and unicodedata.category(c) in HIDDEN]


@pytest.mark.parametrize("name", ["\udcff\udc80", "\ud83d", "a\udfff##["])
def test_json_of_a_name_that_is_no_utf_8(name: str) -> None:
    value = {"name": name, "numbers": [1.5, math.nan, math.inf], "pair": (1, 2)}
    assert json.loads(jsontext.pretty(value)) == {"name": name, "numbers": [1.5, None, None], "pair": [1, 2]}


def test_what_a_model_writes_is_spelled_right() -> None:
    text = "می\u200cخواهم\t👩\u200d👩\u200d👧 ❤\ufe0f\n"
    assert Flow()(text) == text and "\\u200d" in lines(text)

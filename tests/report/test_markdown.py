"""Text as Markdown, read by a parser of CommonMark with tables: it is one text again, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from weighbridge.report import markdown
from weighbridge.report.visible import visible

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
MARKED = st.text(st.sampled_from("a_*`[]()<>|\\&;~#!{}:/.w-$\n\x1b"), max_size=24)


def read(source: str) -> str:
    """The text of an inline source; fails where anything else than text is in it."""
    tokens = READER.parse(source)
    assert [t.type for t in tokens] == ["paragraph_open", "inline", "paragraph_close"], source
    children = tokens[1].children or []
    assert {child.type for child in children} <= {"text", "text_special"}, (source, children)
    return "".join(child.content for child in children)


@given(MARKED)
@example("[a](http://b) <b>x</b> `c` **d** &amp; ~~e~~ | f \\| __g__ _h_")
def test_it_stays_text(text: str) -> None:
    assert read("x " + markdown.escaped(text) + " x") == f"x {visible(text)} x"


@given(st.text(st.sampled_from("-+=#*.)0123 \tx~`>|_:"), min_size=1, max_size=9).filter(str.strip))
def test_it_stays_text_at_the_start_of_a_line(text: str) -> None:
    assert read(markdown.escaped(text)).strip() == visible(text).strip()
    assert [t.type for t in READER.parse("a line\n" + markdown.escaped(text))][:3] == ["paragraph_open", "inline", "paragraph_close"]


@given(st.lists(MARKED, min_size=1, max_size=3))
def test_a_cell_stays_a_cell(cells: list[str]) -> None:
    made = markdown.rows(["h"] * len(cells), [False] * len(cells), [[markdown.escaped(cell) for cell in cells]])
    tokens = READER.parse(made)
    inner = [t for t in tokens if t.type == "inline"][len(cells):]
    assert [t.type for t in tokens].count("tr_open") == 2 and len(inner) == len(cells)
    said = ["".join(child.content for child in t.children or []) for t in inner]
    assert said == [visible(cell).strip() for cell in cells]


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj", "a_b", "layers 0-61", "4096 x 2048"])
def test_plain_names_are_left_alone(name: str) -> None:
    assert markdown.escaped(name) == name and markdown.code(name) == f"`{name}`"


@given(st.text(st.sampled_from("`ab\n"), max_size=20))
def test_a_fence_is_longer_than_what_it_holds(body: str) -> None:
    tokens = READER.parse(markdown.fenced(body))
    assert [t.type for t in tokens] == ["fence"] and tokens[0].content.rstrip("\n") == body.rstrip("\n")


@pytest.mark.parametrize("text", ["http://evil.example", "www.evil.example", "WWW.evil.example"])
def test_no_address_becomes_a_link(text: str) -> None:
    said = markdown.escaped(text)
    assert "://" not in said and "www." not in said.lower() and read(said) == text

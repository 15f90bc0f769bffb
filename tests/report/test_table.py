"""Tables: alignment, separators, and names that are hostile to a terminal or to Markdown."""

from __future__ import annotations

from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.visible import visible


def test_text_table_aligns_and_separates() -> None:
    drawn = text_table(("role", "bytes"), [("experts.gate", 1234567), ("q", 8)], ("total", 1234575))
    assert drawn.split("\n") == [
        "role              bytes",
        "------------  ---------",
        "experts.gate  1,234,567",
        "q                     8",
        "------------  ---------",
        "total         1,234,575",
    ]


def test_markdown_table_escapes_pipes() -> None:
    drawn = markdown_table(("name", "count"), [("a|b", 1000)])
    assert drawn.split("\n") == ["| name | count |", "| --- | --: |", "| a\\|b | 1,000 |"]


def test_no_rows() -> None:
    assert text_table(("a", "b"), []).split("\n") == ["a  b", "-  -"]


def test_control_characters_are_shown() -> None:
    assert visible("a\x1b[31mb\n") == "a\\x1b[31mb\\n"
    assert "\x1b" not in text_table(("n",), [("\x1b[2J",)])

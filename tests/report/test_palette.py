"""Colours keep their contrast, pages hold no way out, and pictures are XML whatever stands in a name."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.report import palette, svg, webpage


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("kind", palette.KINDS)
def test_kinds_can_be_read(kind: str, theme: int) -> None:
    shade, paper = palette.KINDS[kind][1 + theme], palette.INKS["paper"][theme]
    assert contrast(shade.fill, shade.text) >= 4.5
    assert max(contrast(shade.edge, paper), contrast(shade.fill, paper)) >= 3


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("ink", ["ink", "quiet", "accent", "error", "warning", "note", "good"])
@pytest.mark.parametrize("ground", ["paper", "panel"])
def test_inks_can_be_read(ink: str, ground: str, theme: int) -> None:
    assert contrast(palette.INKS[ink][theme], palette.INKS[ground][theme]) >= 4.5


def test_heat_goes_from_dark_to_bright() -> None:
    lightness = [luminance(palette.heat(i / 20)) for i in range(21)]
    assert lightness == sorted(lightness)


@given(st.text(), st.text())
def test_any_text_gives_valid_xml(title: str, words: str) -> None:
    made = svg.picture(10, 10, title, [svg.text(1, 1, words), svg.rect(0, 0, 1, 1, "ink", title=words), svg.group([], label=words)], says=words)
    ElementTree.fromstring(made.encode("utf-8", "strict"))
    assert made == svg.picture(10, 10, title, [svg.text(1, 1, words), svg.rect(0, 0, 1, 1, "ink", title=words), svg.group([], label=words)], says=words)


@given(st.recursive(st.text() | st.integers(-(2**53), 2**53), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_data_cannot_end_its_element(data: object) -> None:
    import json

    held = webpage.embedded(data)
    assert not re.search(r"[<>&\u2028\u2029]", held)
    assert json.loads(held) == data


def test_a_page_allows_no_request() -> None:
    made = webpage.page("<b>x</b>", "<p>y</p>", data={"a": "</script><script>alert(1)</script>"})
    assert "default-src 'none'" in made and "<b>x</b>" not in made and made.count("<script") == 2
    assert not re.search(r"(?:src|href)=\"(?!#)", made)

"""The page of `draw`: one file, everything as text, nothing of a name as markup."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.inspection import tables
from tests.report.draw import pictures
from weighbridge.report.draw.html import html
from weighbridge.report.draw.pieces import leaves

VOID = {"meta", "br", "link", "img", "input"}


class Reader(HTMLParser):
    """Texts, elements, and whether every element ends where it should."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.texts: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def names(document: dict[str, Any]) -> set[str]:
    return {leaf["name"] for leaf, _ in leaves(document)}


def test_the_demo_with_its_conversion() -> None:
    document = pictures.draw(pictures.DEMO, to="neuron")
    page = Reader(html(document))
    assert names(document) <= set(page.texts)
    assert {"q_proj", "halve, turned", "F8_E4M3, block 128x128, F32 scales"} <= set(page.texts)
    assert sum(tag == "svg" for tag, _ in page.seen) == 2
    ids = [attrs["id"] for _, attrs in page.seen if "id" in attrs]
    assert len(ids) == len(set(ids))
    rows = sum(tag == "tr" for tag, _ in page.seen)
    assert rows == 1 + len(document["flow"]["bands"])


def test_the_keyboard_reaches_what_folds_and_scrolls() -> None:
    page = Reader(html(pictures.draw(pictures.DEMO, to="neuron")))
    assert sum(tag == "details" for tag, _ in page.seen) == sum(tag == "summary" for tag, _ in page.seen) > 5
    regions = [attrs for _, attrs in page.seen if attrs.get("role") == "region"]
    assert len(regions) == 3 and all(attrs["tabindex"] == "0" and attrs["aria-label"] for attrs in regions)


def test_nothing_is_fetched() -> None:
    page = Reader(html(pictures.draw(pictures.DEMO)))
    assert not [tag for tag, attrs in page.seen if {"src", "href", "xlink:href"} & set(attrs) and not (attrs.get("href") or "").startswith("#")]


def test_a_rank_and_its_faults() -> None:
    document = pictures.draw(pictures.DEMO, runtime="vllm", settings={"tp": 4})
    page = Reader(html(document))
    assert document["rank"]["faults"] and f"Does not run: {document['rank']['faults'][0]}" in page.texts
    assert any(text.startswith("one rank: ") for text in page.texts)


@pytest.mark.parametrize("name", ["</summary><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a\"b'c&d", "]]>-->"])
def test_hostile_names_are_text(name: str, tmp_path: Path) -> None:
    document = pictures.draw(tables.write_headers(tmp_path / "h", {f"part.{name}.weight": ("F32", (2, 2)), name: ("BF16", (3,))}, {"model_type": name}))
    page = Reader(html(document))
    plain = Reader(html(pictures.draw(pictures.DEMO)))
    assert sum(tag == "script" for tag, _ in page.seen) == sum(tag == "script" for tag, _ in plain.seen)
    assert not [attrs for _, attrs in page.seen if any(key.startswith("on") for key in attrs)]
    assert any(name in text for text in page.texts)

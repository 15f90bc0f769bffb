"""Pages of `explain`: whole HTML, no way out, no script of their own, every fact of the document in them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from weighbridge.check.rule import rules
from weighbridge.formats.schemes import SCHEMES
from weighbridge.lessons import containers, elements, formats, pages, term, wide
from weighbridge.report import webpage
from weighbridge.report.explain import html as explain_html
from weighbridge.report.explain import text as explain_text

WORDS = (*formats.SMALL, *containers.CONTAINERS, *wide.WIDE, *elements.elements(), *SCHEMES, *term.terms(), "terms", "formats", "rules", "skip-list", "WB101", "WB304")
VOID = {"meta", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects text, headings and ids; complains of elements that are not closed in their order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(markup)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


@pytest.mark.parametrize("word", WORDS)
def test_a_page_is_whole(word: str) -> None:
    document = pages.document(word)
    made = explain_html.page(document)
    page = Page(made)
    assert page.headings.count(1) == 1 and all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    assert len(page.ids) == len(set(page.ids))
    assert webpage.POLICY in made and len(made) < 150_000
    assert not [a for a in page.attributes if a[1] in ("src", "href") and a[2] != "#main"], "nothing is fetched"
    assert not [a for a in page.attributes if a[1].startswith("on")] and made.count("<script") == 1, "the theme switch alone"
    assert made == explain_html.page(pages.document(word))


@pytest.mark.parametrize("word", WORDS)
def test_what_scrolls_can_be_reached_by_keyboard(word: str) -> None:
    made = explain_html.page(pages.document(word))
    for opening in re.findall(r'<div class="wide"[^>]*>', made):
        assert 'tabindex="0"' in opening and 'role="region"' in opening and re.search(r'aria-label="[^"]+"', opening)


@pytest.mark.parametrize("name", term.terms())
def test_every_sentence_of_a_term_is_in_all_forms(name: str) -> None:
    document = pages.document(name)
    page = Page(explain_html.page(document)).text
    text, markdown = (" ".join(made(document).split()) for made in (explain_text.text, explain_text.markdown))
    for blocks in document["sections"].values():
        for block in blocks:
            for words in block.get("items", [block.get("text")]):
                plain = " ".join(words.split())
                assert plain in text and plain in markdown
                bare = plain.replace("`", "")
                assert bare.replace(" ", "") in page.replace(" ", ""), bare


@pytest.mark.parametrize("fmt", formats.SMALL)
def test_every_code_is_in_the_page_and_in_markdown(fmt: str) -> None:
    document = pages.document(fmt)
    markdown, page = explain_text.markdown(document), explain_html.page(document)
    for row in document["codes"]:
        assert f"| 0x{row['code']:02X} | {row['bits']} |" in markdown
        assert f"<td>0x{row['code']:02X}</td><td>{row['bits']}</td>" in page


def test_rules_show_their_sections() -> None:
    for code in list(rules())[::17]:
        document = pages.document(code)
        text = Page(explain_html.page(document)).text.replace(" ", "")
        assert all("".join(body.replace("`", "").replace("* ", "").split()) in text.replace("*", "") or "*" in body
                   for body in document["sections"].values())


def test_hostile_words_stay_words() -> None:
    bad = '<img src=x onerror=alert(1)> & "q" `</code><script>`'
    blocks = [{"kind": "paragraph", "text": bad}, {"kind": "list", "items": [bad]}, {"kind": "formula", "text": bad}]
    document = {**pages.document("scale"), "says": bad, "see_also": [bad], "references": bad, "sections": {bad: blocks}}
    made = explain_html.page(document)
    page = Page(made)
    assert "<img" not in made and made.count("<script") == 1 and page.text.count("<img src=x onerror=alert(1)>") >= 5


def test_a_site_can_link_the_words() -> None:
    document = pages.document("scale")
    made = explain_html.body(document, lambda word: f"{word}.html" if not word.startswith("WB") else "")
    assert '<a href="amax.html">amax</a>' in made and "<code>weighbridge explain WB401</code>" in made

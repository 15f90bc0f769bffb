"""The pages and pictures of docs/ that the tool makes are what it makes now, both languages of the guide say the same numbers, and the site holds together."""

from __future__ import annotations

import re
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import guide_numbers
import make_api
import make_guide
import make_site
import make_verbs
import shown
import site_links

AGAIN = "run `python docs/make_site.py --pages`"
PICTURE_LIMIT = 150_000  # bytes: a page shows eight of them
TEMPLATES = ("README.in", "README.zh.in")


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_the_python_api_is_what_the_docstrings_say() -> None:
    assert read("api.md") == make_api.page(), AGAIN


def test_the_list_of_verbs_is_up_to_date() -> None:
    assert read("verbs/index.md") == make_verbs.index(), AGAIN
    assert {path.stem for path in (DOCS / "verbs").glob("*.md")} == {"index", *make_verbs.present()}
    assert set(make_verbs.VERBS) == set(make_verbs.present()), "a verb without a page, or a page without a verb"


@pytest.mark.parametrize("verb", make_verbs.present())
def test_a_verb_shows_what_ran(verb: str) -> None:
    stored, made = read(f"verbs/{verb}.md"), make_verbs.page(verb)
    if make_verbs.VERBS[verb].loose:
        stored, made = make_verbs.structure(stored), make_verbs.structure(made)
    assert stored == made, AGAIN


def test_a_loose_page_still_holds_words_and_rows() -> None:
    table = "stage  relative\nattn   1.2e-07  ██▎\nok 3 of 4"
    assert make_verbs.structure(table) == make_verbs.structure("stage  relative\nattn   3.9e-06  ▏\nok 4 of 4")
    assert make_verbs.structure(table) != make_verbs.structure(table.replace("ok", "not ok")) != make_verbs.structure(table.replace("attn", "router"))


def test_every_flag_of_a_verb_has_a_row_that_says_something() -> None:
    for verb in make_verbs.present():
        rows = re.findall(r"^\| `(?:--)?[\w-]+`.* \| (.*) \|$", read(f"verbs/{verb}.md"), re.MULTILINE)
        assert all(rows), f"{verb}: a flag without a word"


def test_what_is_measured_is_left_out() -> None:
    line = "Wrote 10.80 MB in 5 files in 0.03 s (327.33 MB/s), peak memory 66.82 MB"
    assert shown.normal(line) == "Wrote 10.80 MB in 5 files in … s (… MB/s), peak memory … MB\n"
    with shown.Stage() as stage, pytest.raises(RuntimeError, match="ended with 2, not 0"):
        stage.run("weighbridge inspect NOTHING")


@pytest.fixture(scope="module")
def guide() -> dict[str, str]:
    """Both languages, with every number computed now."""
    return make_guide.pages()


@pytest.mark.parametrize("name", make_guide.PAGES)
def test_the_guide_says_what_is_computed_now(guide: dict[str, str], name: str) -> None:
    assert read(name) == guide[name], AGAIN


def test_both_languages_say_the_same_numbers() -> None:
    english, chinese = (re.findall(r"\d[\d,.]*\d|\d", read(name)) for name in make_guide.PAGES)
    assert set(english) == set(chinese)
    english, chinese = (read(name) for name in make_guide.PAGES)
    for pattern in (r"!\[[^\]]*\]\(([^)]+)\)", r"\]\((\.\./[^)]+)\)", r"^(?:\$ )?(weighbridge [^#\n]*[^# \n])", r"\[(WB\d+)\]"):
        assert re.findall(pattern, english, re.MULTILINE) == re.findall(pattern, chinese, re.MULTILINE), pattern
    assert english.count("\n## ") == chinese.count("\n## ") and english.count("\n|") == chinese.count("\n|")


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_number_of_the_guide_is_typed(template: str) -> None:
    text = re.sub(r"\{\{[^{}]*\}\}", "", (make_guide.FOLDER / template).read_text(encoding="utf-8"))
    typed = [found for found in re.findall(r"(?<![\w#-])\d[\d,.]*(?![\w-])", text) if found != "1"]  # 1 / scale is a formula
    assert not typed
    assert set(re.findall(r"\{\{(\w+)\}\}", (make_guide.FOLDER / template).read_text(encoding="utf-8"))) <= {*make_guide.computed(), "skip"}


def test_the_numbers_of_the_guide_are_those_of_minimax_m2() -> None:
    """Against the published facts, so that a fault of the computation does not pass as up to date."""
    said = make_guide.computed()
    wanted = {"fp8_weights": "47,864", "tensors": "96,103", "bytes": "230,121,630,720", "parameters": "228,689,764,864", "gb_bf16": "457 GB", "expert_tp": "1, 2, 3, 4, 6, 12",
              "width_bad": "192", "odd_codes": "16", "same_codes": "240", "lost_codes": "14", "max_fn": "448", "max_ieee": "240", "grid_rows": "48", "grid_cols": "24"}
    assert {name: said[name] for name in wanted} == wanted
    assert said["top_value"] == said["top_neuron"] != said["top_wrong"]
    assert guide_numbers.QUOTED.items() <= said.items()


@pytest.fixture(scope="module")
def pictures() -> dict[str, str]:
    return make_guide.pictures()


@pytest.mark.parametrize("name", make_guide.PICTURES)
def test_a_picture_is_what_the_tool_draws_now(pictures: dict[str, str], name: str) -> None:
    stored = (make_guide.FOLDER / name).read_bytes()
    assert stored == pictures[f"fp8/{name}"].encode(), AGAIN
    assert len(stored) < PICTURE_LIMIT
    root = ET.fromstring(stored)
    assert root.tag.endswith("svg") and root.find("{http://www.w3.org/2000/svg}title") is not None
    assert "prefers-color-scheme:dark" in stored.decode() and "http" not in stored.decode().replace("http://www.w3.org/", "")


def test_every_picture_is_shown_and_told() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    found = re.findall(r"!\[([^\]]*)\]\((?:\.\./fp8/)?([\w-]+\.svg)\)", pages)
    assert {file for _, file in found} == set(make_guide.PICTURES)
    assert all(words.strip() for words, _ in found)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "docs"
    make_site.write_tree(folder)
    return folder


def test_the_navigation_has_every_page(tree: Path) -> None:
    def leaves(entry: Any) -> Iterator[str]:
        for inner in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
            yield from leaves(inner)
        if isinstance(entry, str):
            yield entry

    listed = list(leaves(tomllib.loads(make_site.config())["project"]["nav"]))
    assert sorted(listed) == sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.md"))


def test_every_link_of_the_tree_leads_somewhere(tree: Path) -> None:
    lost = []
    for path in tree.rglob("*.md"):
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        links = [link for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)) if not re.match(r"[a-z]+:|#", link)]
        lost += [f"{path.relative_to(tree)}: {link}" for link in links if not (path.parent / link.partition("#")[0]).is_file()]
    assert not lost
    assert "rules/wb304.md" in (tree / "failures.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("body", "says"), [
    ('<a href="other.html">', "leads nowhere"), ('<a href="#there">', "leads nowhere"), ('<a href="page.html#here">', ""), ('<a id="here" href="https://example.org">', ""),
    ('<script src="https://example.org/x.js"></script>', "from another host"), ('<img src="//example.org/x.png">', "from another host"), ('<img src="x.png">', "is not there"),
    ('<p style="background:url(https://example.org/x.png)">', "from another host"), ('<link rel="canonical" href="https://example.org">', ""),
])
def test_a_broken_link_and_a_foreign_request_are_found(tmp_path: Path, body: str, says: str) -> None:
    (tmp_path / "page.html").write_text(f'<h1 id="here">x</h1>{body}', encoding="utf-8")
    found = site_links.problems(tmp_path)
    assert (says in found[0] and len(found) == 1) if says else not found


def test_a_style_that_fetches_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("/* url(https://example.org) */ @import 'https://example.org/y.css'; b{src:url(https://example.org/z.woff)}", encoding="utf-8")
    assert len(site_links.problems(tmp_path)) == 2

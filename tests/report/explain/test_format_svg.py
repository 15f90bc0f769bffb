"""Pictures of formats and terms: valid, the same bytes each time, every value drawn, no words over words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from weighbridge.errors import Usage
from weighbridge.lessons import containers, formats, pages, term, wide
from weighbridge.report import palette
from weighbridge.report.explain import axes, format_svg, format_text, term_svg
from weighbridge.report.explain import svg as explain_svg

SVG = "{http://www.w3.org/2000/svg}"
WITH_PICTURE = (*formats.SMALL, *containers.CONTAINERS, *wide.WIDE, *(name for name, held in term.terms().items() if held.figure))


def text_boxes(root: ElementTree.Element) -> list[tuple[float, float, float, str]]:
    """(left, right, baseline, words) of every text, with a width that a usual font keeps."""
    shift = 0.0
    boxes = []

    def walk(node: ElementTree.Element, shift: float) -> None:
        moved = re.fullmatch(r"translate\(0 (-?[\d.]+)\)", node.get("transform", ""))
        shift += float(moved[1]) if moved else 0
        if node.tag == f"{SVG}text":
            classes, words = node.get("class", "").split(), node.text or ""
            width = len(words) * (6.2 if "small" in classes else 7.3 if "mono" in classes else 9.0 if "head" in classes else 7.6 if "bold" in classes
                                  else 6.9)
            x = float(node.get("x", 0))
            left = x - width / 2 if "mid" in classes else x - width if "end" in classes else x
            boxes.append((left, left + width, float(node.get("y", 0)) + shift, words))
        for child in node:
            walk(child, shift)

    walk(root, shift)
    return boxes


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", WITH_PICTURE)
def test_a_picture_is_valid_named_and_the_same_each_time(name: str, inside: bool) -> None:
    make = term_svg.picture if name in term.terms() else format_svg.picture
    made = make(pages.document(name), inside_page=inside)
    assert made == make(pages.document(name), inside_page=inside)
    root = ElementTree.fromstring(made)
    assert root.get("role") == "img" and root.find(f"{SVG}title").text and root.find(f"{SVG}desc").text  # type: ignore[union-attr]
    assert not re.search(r"nan|inf(?!inity|inite)", re.sub(r"<(title|desc|text)[^>]*>[^<]*", "", made), re.IGNORECASE), "no coordinate is NaN"
    assert "http" not in made.replace("http://www.w3.org/2000/svg", "") and "<script" not in made


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", WITH_PICTURE)
def test_no_words_lie_over_words_or_outside(name: str, inside: bool) -> None:
    make = term_svg.picture if name in term.terms() else format_svg.picture
    root = ElementTree.fromstring(make(pages.document(name), inside_page=inside))
    width, height = map(float, root.get("viewBox", "").split()[2:])
    boxes = text_boxes(root)
    for left, right, y, words in boxes:
        assert left >= -2 and right <= width + 2 and 8 <= y <= height, words
    for i, (left, right, y, words) in enumerate(boxes):
        for other_left, other_right, other_y, other in boxes[i + 1:]:
            assert abs(y - other_y) >= 10 or right <= other_left + 1 or other_right <= left + 1, (words, other)


@pytest.mark.parametrize("name", WITH_PICTURE)
def test_only_classes_that_have_a_colour(name: str) -> None:
    made = explain_svg.picture(pages.document(name))
    style = palette.standalone() + re.findall(r"<style>(.*?)</style>", made, re.DOTALL)[0]
    used = {word for words in re.findall(r'class="([^"]*)"', made) for word in words.split()}
    assert all(f".{word}" in style for word in used), used


@pytest.mark.parametrize("fmt", formats.SMALL)
def test_every_value_has_a_tick(fmt: str) -> None:
    told = pages.document(fmt)
    made = format_svg.picture(told)
    # On the axis of octaves no two values are closer than a quarter of a unit: one tick for each.
    positive = [row["value"] for row in told["codes"] if row["value"] and row["value"] > 0]
    last = [d for d in re.findall(r'd="((?:M[\d.]+ [\d.]+v24)+)"', made)]
    by_octave = last[-2:] if told["min_subnormal"] else last[-1:]
    assert sum(d.count("M") for d in by_octave) == len(positive)


def test_axes() -> None:
    even, octave = axes.even(0, 100, -1, 1), axes.octaves(0, 100, 0, 4)
    assert (even(-1), even(0), even(1)) == (0, 50, 100) and (octave(1), octave(4), octave(16)) == (0, 50, 100)
    assert axes.ticks([], even, 0, 1, "ink") == "" and axes.ticks([0.0, 0.0001, 1.0], even, 10, 4, "ink").count("M") == 2
    crowded = axes.labelled([(10, "one"), (12, "two"), (14, "three")], 0)
    assert crowded.count("<text") == 1 and "three" in crowded, "the last label wins where all touch"


def test_what_has_no_picture_says_so() -> None:
    for word in ("scale", "WB101", "terms", "rules", "skip-list"):
        with pytest.raises(Usage):
            explain_svg.picture(pages.document(word))


def test_the_hash_seed_changes_nothing() -> None:
    code = ("import hashlib; from weighbridge.lessons import pages; from weighbridge.report.explain import svg as explain_svg, html as explain_html, text as explain_text; "
            "print(hashlib.sha256(''.join(explain_svg.picture(d) + explain_html.page(d) + explain_text.text(d) for d in map(pages.document, "
            "('e4m3fn', 'nvfp4', 'bf16', '240-vs-448', 'block-quantization'))).encode()).hexdigest())")
    made = {subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
                           check=True).stdout for seed in ("0", "1")}
    assert len(made) == 1


@pytest.mark.parametrize(("value", "words"), [(448.0, "448"), (2.0**-9, "2^-9"), (-(2.0**-9), "-2^-9"), (0.0, "0"), (0.015625, "0.015625"),
                                              (0.013671875, "0.013671875"),
                                              (57344.0, "57,344"), (2.0**127, "2^127"), (3.4028234663852886e38, "3.40282e+38"), (None, "")])
def test_amounts(value: float | None, words: str) -> None:
    assert format_text.amount(value) == words


def test_character_lines() -> None:
    assert format_text.even_line([0.0, 1.0], 0.0, 1.0, 5) == "▁   ▁"
    assert [format_text.tick(n) for n in (0, 1, 2, 3, 4, 8, 9, 17, 33)] == list(" ▁▂▃▄▅▆▇█")
    assert format_text.scale_of([(0.0, "0"), (0.1, "1"), (1.0, "9")], 10) == "0        9"
    assert format_text.log_line([1.0, 2.0, 4.0], 0, 2, 5) == "▁ ▁ ▁"
    held = [row["value"] for row in pages.document("e4m3fn")["codes"] if row["value"] is not None and row["value"] > 0]
    assert sum({" ": 0, "▁": 1, "▂": 2, "▃": 3, "▄": 4}[c] for c in format_text.log_line(held, -9, 9)) == len(held)

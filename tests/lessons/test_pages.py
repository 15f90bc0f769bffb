"""One word to one page: spellings, unknown and hostile words, and a folder without a tensor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.check.rule import rules
from weighbridge.errors import Usage
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.schemes import SCHEMES
from weighbridge.lessons import elements, pages, term
from weighbridge.lessons.schemes import page_of
from weighbridge.testing.replica import write_replica

HOSTILE = ("", " ", "\x00", "\x1b[31mred", "../../etc/passwd", "<script>alert(1)</script>", "x" * 100_000, "\ud800", "e4m3fn\n", "WB999",
           "WB" + "9" * 4000, "{scale}", "%s%n", "__init__",
           "term", "arithmetic", "NaN")


@pytest.mark.parametrize("word", pages.known())
def test_every_spelling_finds_its_page(word: str) -> None:
    name = pages.known()[word]
    for spelled in (word, word.upper(), word.replace("-", "_"), f" {word} "):
        assert pages.document(spelled)["what"] == name
    json.dumps(pages.document(word), allow_nan=False)


def test_rules_keep_their_pages() -> None:
    assert pages.document("wb101")["name"] == "shard-missing" and pages.document("shard-missing")["code"] == "WB101"
    assert {row["code"] for row in pages.document("rules")["rules"]} == set(rules())
    assert pages.document("skip-list")["readers"]


def test_terms_lists_every_word_with_a_page() -> None:
    told = pages.document("terms")
    assert {row["name"] for row in told["terms"]} == set(term.terms())
    assert {row["name"] for row in told["formats"]} == {"e4m3fn", "e4m3", "e4m3fnuz", "e5m2", "e2m1", "e8m0", "mxfp8", "mxfp4", "nvfp4", "int8",
                                                        "int4", "bf16", "f16", "f32", *elements.elements()}
    assert {pages.known()[row["name"]] for row in told["formats"]} >= {pages.known()[page_of(element)] for element in ELEMENTS}
    assert [row["name"] for row in told["schemes"]] == list(SCHEMES)
    pictured = {row["name"] for row in told["terms"] if row["picture"]}
    assert pictured == {name for name in term.terms() if "figure" in pages.document(name)}
    assert pictured >= {"block-quantization", "240-vs-448", "weight_scale_inv", "block-grid-and-shards"}


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_words_are_refused_with_words(word: str) -> None:
    pages.refuse_checkpoint(word)
    try:
        told = pages.document(word)
    except Usage as error:
        assert len(error.first.message) < 200 and "weighbridge explain terms" in error.first.hint
    else:
        assert told["what"] == "e4m3fn"  # a newline at the end is no other word


@given(st.text(max_size=40))
def test_any_word_is_a_page_or_a_refusal(word: str) -> None:
    try:
        assert pages.document(word)["schema"] == "weighbridge.explain/1"
    except Usage as error:
        assert "weighbridge explain terms" in error.first.hint


@pytest.mark.parametrize(("word", "near"), [("weight_scale_in", "weight_scale_inv"), ("e4m3f", "e4m3fn"), ("block", "block-quantization"),
                                            ("WB10", "WB101"), ("scal", "scale"),
                                            ("saturate", "saturation"), ("skiplist", "skip-list"), ("matches-to-much", "WB304")])
def test_near_names(word: str, near: str) -> None:
    with pytest.raises(Usage) as caught:
        pages.document(word)
    assert near in caught.value.first.hint or (near.startswith("WB") and rules()[near].rule.name in caught.value.first.hint)


def test_a_folder_alone_names_three_of_its_tensors(tmp_path: Path) -> None:
    folder = write_replica(tmp_path / "r", layers=1, experts=1, vocab=128, scales="zero")
    with pytest.raises(Usage) as caught:
        pages.refuse_checkpoint(str(folder))
    named = caught.value.first.hint.partition("it has ")[2].split(", ")
    assert len(named) == 3 and len(set(named)) == 3 and all(name.endswith(".weight") for name in named)
    from weighbridge.checkpoint.source import open_checkpoint

    assert all(open_checkpoint(folder).tensors[name].dtype == "F8_E4M3" for name in named)


def test_an_empty_folder_and_an_address(tmp_path: Path) -> None:
    with pytest.raises(Usage) as caught:
        pages.refuse_checkpoint(str(tmp_path))
    assert "no safetensors file" in caught.value.first.hint
    with pytest.raises(Usage):
        pages.refuse_checkpoint("https://example.org/model")


def test_a_repository_alone_is_told_what_is_missing() -> None:
    pages.refuse_checkpoint("org/name")
    with pytest.raises(Usage) as caught:
        pages.document("org/name")
    assert "needs a tensor" in caught.value.first.hint


def test_a_word_wins_over_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scale").mkdir()
    pages.refuse_checkpoint("scale")

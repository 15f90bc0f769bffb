"""`weighbridge explain`: rules, formats, terms, lists, in every form; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import weighbridge
from weighbridge.check.rule import rules
from weighbridge.cli import main
from weighbridge.cli.explain import position
from weighbridge.errors import Usage
from weighbridge.lessons import containers, formats, term, wide
from weighbridge.runtimes.skip import RULES
from weighbridge.testing.replica import write_replica

FORMATS = (*formats.SMALL, *containers.CONTAINERS, *wide.WIDE)
WORDS = (*FORMATS, *term.terms())


@pytest.mark.parametrize("code", list(rules()))
def test_every_rule_prints_its_page(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{code} {rules()[code].rule.name}: ") and "Why it matters" in out and "How to mend" in out


def test_lists_and_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "rules"]) == 0
    out = capsys.readouterr().out
    assert all(code in out for code in rules())
    assert main(["explain", "skip-list", "--format", "json"]) == 0
    assert {r["reader"] for r in json.loads(capsys.readouterr().out)["readers"]} == set(RULES)
    assert main(["explain", "shard-missing", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("# WB101 shard-missing")
    assert main(["explain", "terms"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {word} " in out for word in WORDS)
    assert main(["explain", "terms", "--format", "markdown"]) == 0
    assert "| weight_scale_inv |" in capsys.readouterr().out


@pytest.mark.parametrize("word", WORDS)
def test_every_word_prints_in_the_width_of_a_terminal(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", word]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith(f"{word}: ") and "See also" in lines and "References" in lines
    assert max(map(len, lines)) <= 100 and out.isprintable() is False and all(line.isprintable() for line in lines)
    assert not any(line != line.rstrip() for line in lines)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("form", ["json", "markdown", "html"])
def test_every_word_in_every_form(word: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", word, "--format", form]) == 0
    out = capsys.readouterr().out
    if form == "json":
        told = json.loads(out)
        assert (told["schema"], told["what"]) == ("weighbridge.explain/1", word) and told["version"]
    else:
        assert out.startswith("<!doctype html>" if form == "html" else f"# {word}")


@pytest.mark.parametrize("word", ["e4m3fn", "mxfp4", "bf16", "240-vs-448"])
def test_the_ending_of_the_file_chooses_the_form(word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begins = {"svg": "<svg ", "html": "<!doctype html>", "md": f"# {word}", "json": "{", "txt": f"{word}: "}
    for ending, start in begins.items():
        file = tmp_path / f"page.{ending}"
        assert main(["explain", word, "-o", str(file)]) == 0
        assert file.read_text(encoding="utf-8").startswith(start)
    assert main(["explain", word, "--html", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "page.html").read_bytes()
    assert capsys.readouterr().out == ""
    assert main(["explain", word, "--html"]) == 0
    assert capsys.readouterr().out.encode() == (tmp_path / "page.html").read_bytes()
    assert main(["explain", word, "--html", "--output", str(tmp_path / "b.md")]) == 0
    assert (tmp_path / "b.md").read_text(encoding="utf-8").startswith("<!doctype html>"), "--html wins over an ending"


@pytest.mark.parametrize("arguments", [["scale", "--format", "svg"], ["WB101", "--format", "svg"], ["e4m3fn", "--html", "--format", "json"],
                                       ["e4m3fn", "--at", "0,0"],
                                       ["e4m3fn", "--block", "128,128"], ["e4m3fn", "--format", "pdf"], [], ["nothing-of-that-name"], [""],
                                       ["\x1b[31m"], ["x" * 5000],
                                       ["no/such/folder", "tensor"], ["../nowhere", "tensor", "--at", "1"]])
def test_refusals_are_two_and_have_words(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments]) == 2
    err = capsys.readouterr()
    assert "Traceback" not in err.out + err.err and "\x1b" not in err.err and len(err.err) < 2000


def test_an_unknown_word_is_two_and_offers_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "WB10"]) == 2
    assert "WB101" in capsys.readouterr().err
    assert main(["explain", "weight_scale_invs"]) == 2
    err = capsys.readouterr().err
    assert "weight_scale_inv" in err and "weighbridge explain terms" in err


def test_a_folder_without_a_tensor_names_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_replica(tmp_path / "r", layers=1, experts=1, vocab=128, scales="zero")
    assert main(["explain", str(folder)]) == 2
    err = capsys.readouterr().err
    assert "no tensor of it" in err and err.count(".weight") == 3


@pytest.mark.parametrize(("text", "place"), [("5,700", (5, 700)), (" 0 , 128 ", (0, 128)), (None, None)])
def test_positions(text: str | None, place: tuple[int, int] | None) -> None:
    assert position(text) == place


@pytest.mark.parametrize("text", ["", "5", "5,", "-1,2", "1,2,3", "1.5,2", "٣,٤", "9" * 50 + ",1"])
def test_wrong_positions(text: str) -> None:
    with pytest.raises(Usage):
        position(text)


@pytest.mark.parametrize("form", ["text", "json", "markdown", "svg", "html"])
def test_a_tensor_goes_to_its_own_pages(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(weighbridge.__file__).parent / "demo" / "checkpoint"
    name = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
    assert main(["explain", str(folder), name, "--format", form, "--at", "3,200"]) == 0
    out = capsys.readouterr().out
    begins = {"text": name, "json": "{", "markdown": "#", "svg": "<svg", "html": "<!doctype html>"}
    assert name in out.replace("\\", "") and out.startswith(begins[form])
    if form == "json":
        assert (json.loads(out)["schema"], json.loads(out)["what"]) == ("weighbridge.explain/1", "tensor")

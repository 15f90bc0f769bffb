"""Folders and files whose names are no UTF-8: Linux allows any bytes, and every verb and format must name them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from weighbridge.cli import main
from weighbridge.testing.tiny import EVEN, write_tiny

ODD = os.fsdecode(b"model-\xff\xe9")


@pytest.fixture
def odd(tmp_path):
    source = write_tiny(tmp_path / "src", **EVEN | {"experts": 2, "layers": 1})
    try:
        source.rename(tmp_path / ODD)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    shutil.copy(tmp_path / ODD / "config.json", tmp_path / ODD / os.fsdecode(b"note-\xff.txt"))
    return tmp_path / ODD


VERBS = [("inspect", "text"), ("inspect", "json"), ("inspect", "markdown"), ("check", "text"), ("check", "json"), ("check", "markdown"), ("check", "sarif"),
         ("check", "github"), ("draw", "text"), ("draw", "json"), ("draw", "markdown"), ("report", "json")]


@pytest.mark.parametrize("verb, form", VERBS)
def test_a_folder_that_is_no_utf8(odd, verb, form, capfdbinary):
    assert main([verb, str(odd), "--format", form]) in (0, 1), capfdbinary.readouterr().err
    sys.stdout.flush()
    out = capfdbinary.readouterr().out
    out.decode("utf-8")
    if form in ("json", "sarif"):
        document = json.loads(out)
        assert form == "sarif" or os.path.samefile(document["source"], odd)


@pytest.mark.parametrize("words", [["inspect"], ["verify", "."], ["convert", "--to", "neuron", "--dry-run"]])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_folder_that_is_not_there(tmp_path, words, form, capfd):
    assert main([words[0], str(tmp_path / ODD / "none"), *words[1:], "--format", form]) == 2
    out, err = capfd.readouterr()
    assert "none" in (json.loads(out)["error"]["where"] if form == "json" else err)


@pytest.mark.parametrize("form", ["text", "json"])
def test_convert_into_and_out_of_it(odd, tmp_path, form, capfd):
    out = tmp_path / os.fsdecode(b"out-\xfe")
    assert main(["convert", str(odd), str(out), "--to", "hf-bf16", "--format", form]) == 0, capfd.readouterr().err
    assert main(["verify", str(odd), str(out), "--format", form]) == 0
    assert main(["convert", str(odd), str(tmp_path / "other"), "--to", "neuron", "--plan", str(tmp_path / "plan.json")]) == 2
    assert not (tmp_path / "plan.json").exists() and "UTF-8" in capfd.readouterr().err
    assert main(["trace", str(odd), "lm_head.weight", "--to", "neuron", "--format", form]) == 0
    assert main(["inspect", str(odd), "--format", form, "-o", str(tmp_path / os.fsdecode(b"report-\xfd.txt"))]) == 0
    page = tmp_path / os.fsdecode(b"page-\xfc.html")
    assert main(["report", str(odd), "-o", str(page)]) == 0 and Path(page).read_bytes().decode("utf-8")

"""Small files that would hang or flood: each is answered in bounded work and in words that a terminal can hold."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from weighbridge.check.case import Case
from weighbridge.check.run import findings, targets
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.cli import main
from weighbridge.testing import large
from weighbridge.testing.tiny import EVEN, write_tiny

READERS = "transformers,vllm,sglang,neuron,tensorrt-llm,llama.cpp"
SECONDS = 10  # of CPU time: the old code took more than 40, or for ever; what is left is the honest size, and numba and imports
TEXT = 400_000  # characters of a text for people
# Those that took quadratic time or more, ended with 101, or printed a value of megabytes.
CHOSEN = ("axes", "axes_of_two", "name_long", "number_long", "name_twice_over", "dtype_long", "axes_wrong_everywhere", "index_absent_files", "index_bad_paths",
          "list_of_strangers", "list_of_letters", "list_of_globs", "list_of_nested_expressions", "list_of_nested_expressions_without_mark",
          "groups_of_nested_expressions")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("original") / "src", **EVEN | {"experts": 2, "layers": 1})


@pytest.fixture
def good(original, tmp_path):
    return shutil.copytree(original, tmp_path / "checkpoint")


def answer(out: Path, *words: object) -> tuple[int, float, str]:
    """(exit code, CPU seconds, what was printed) of a command in a process of its own, which an endless one does not take along."""
    child = os.fork()
    if child == 0:
        handle = os.open(out, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (6 * SECONDS, 6 * SECONDS))
        code = 250
        try:
            code = main([str(word) for word in words])
            sys.stdout.flush()
        finally:
            os._exit(code)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, out.read_text("utf-8", "replace")


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.parametrize("words", [("inspect",), ("check", "--runtime", READERS)], ids=["inspect", "check"])
def test_a_large_input_is_answered(good, name, words, tmp_path):
    large.LARGE[name](good)
    headers = sum(int.from_bytes(path.read_bytes()[:8], "little") for path in good.glob("*.safetensors"))
    assert headers + sum(path.stat().st_size for path in good.glob("*.json")) < 13_000_000
    code, seconds, text = answer(tmp_path / "printed", words[0], good, *words[1:])
    assert code in (0, 1, 2), text[-2000:]
    assert seconds < SECONDS and len(text) < TEXT


def test_every_input_says_what_it_is():
    assert set(CHOSEN) <= large.LARGE.keys() and all(change.__doc__ for change in large.LARGE.values())


@pytest.mark.parametrize("name, reader", [("list_of_nested_expressions", "vllm"), ("list_of_nested_expressions_without_mark", "transformers")])
def test_an_expression_that_is_not_tried_is_named(good, name, reader):
    """Never silence, never clean."""
    large.LARGE[name](good)
    case = Case(open_checkpoint(good), targets([reader]))
    found = [f for f in findings(case) if f.code == "WB305" and "not tried" in f.title]
    assert found and found[0].where.count > 10


def test_inspect_names_what_it_did_not_try(good, tmp_path):
    large.LARGE["list_of_nested_expressions"](good)
    code, _, text = answer(tmp_path / "printed", "inspect", good, "--format", "json")
    notes = {entry["code"]: entry for entry in json.loads(text)["disagreements"]}
    assert code == 0 and notes["skip-untried"]["count"] > 10 and "not tried" in notes["skip-untried"]["message"]


@pytest.mark.parametrize("name", ["axes", "name_long", "dtype_long"])
def test_what_the_header_alone_says_is_a_finding(good, name):
    large.LARGE[name](good)
    assert [f.code for f in findings(Case(open_checkpoint(good, lenient=True))) if f.severity == "error"]


@pytest.mark.parametrize("words", [("inspect",), ("check",), ("draw",), ("convert", "--to", "hf-bf16", "--dry-run")], ids=lambda words: words[0])
def test_a_model_type_of_megabytes_is_cut(good, words, tmp_path):
    large.set_text(good / "config.json", ("model_type",), large.values()["long text"])
    for format in ("text", "json"):
        code, _, text = answer(tmp_path / "printed", words[0], good, *words[1:], "--format", format)
        assert code in (0, 1, 2) and len(text) < 100_000


@pytest.mark.parametrize("key", ["quant_method", "fmt", "activation_scheme", "modules_to_not_convert", "ignore", "weight_block_size", "scale_fmt"])
def test_a_claim_of_megabytes_is_cut(good, key, tmp_path):
    large.set_text(good / "config.json", ("quantization_config", key), large.values()["long text"])
    for words in (["inspect"], ["check", "--runtime", READERS]):
        code, _, text = answer(tmp_path / "printed", words[0], good, *words[1:])
        assert code in (0, 1, 2) and len(text) < 100_000


def test_a_tilde_below_a_dot_is_a_folder_here(good, tmp_path, monkeypatch, capsys):
    good.rename(tmp_path / "~x")
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "./~x"]) == 0 and "F8_E4M3" in capsys.readouterr().out
    monkeypatch.setenv("HOME", str(tmp_path / "~x"))
    assert main(["inspect", "~"]) == 0

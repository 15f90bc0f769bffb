"""The command line: verbs, exit codes, errors in both forms, and whole processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from weighbridge import __version__, cli
from weighbridge.cli import main
from weighbridge.cli.quick import bind
from weighbridge.errors import Problem, Refused
from weighbridge.testing.replica import write_replica


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_replica(tmp_path_factory.mktemp("cli") / "r", layers=2, experts=2, vocab=256, scales="zero")


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", run)


def test_inspect_in_three_forms(small: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["inspect", str(small)]) == 0
    assert "20 FP8 weights with 20 F32 scales" in capsys.readouterr().out
    assert main(["inspect", str(small), "--format", "json", "-o", str(tmp_path / "f.json")]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["schema"] == "weighbridge.inspect/1"
    assert capsys.readouterr().out == ""
    assert main(["inspect", str(small), "--format=markdown"]) == 0
    assert capsys.readouterr().out.startswith("## ")


@pytest.mark.parametrize("words", [["--tensors"], ["--tensors", "--format", "text"], ["--tensors", "*"], ["--tensors=*"]])
def test_tensors_with_and_without_a_pattern(small: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["inspect", str(small), *words]) == 0
    out = capsys.readouterr().out
    assert "lm_head.weight" in out and "model.layers.1.self_attn.q_proj.weight_scale_inv" in out


def test_one_truth_for_flags(small: Path) -> None:
    """What the quick path takes, cyclopts takes the same way; what it leaves, cyclopts judges."""
    from weighbridge.cli.inspect import inspect as verb

    for words in (["s"], ["s", "--format", "json"], ["-o", "f", "s"], ["s", "--output=f", "--tensors", "*.w"]):
        bound = bind(verb, words, cli.SHORT)
        assert bound is not None
        _, arguments, _ = cli.app().parse_args(["inspect", *words], exit_on_error=False, print_error=False)
        assert (list(arguments.args), arguments.kwargs) == bound
    for words in ([], ["a", "b"], ["s", "--format", "yaml"], ["s", "--nope", "x"], ["s", "-o"], ["--help"], ["s", "--format", "json", "--format", "text"]):
        assert bind(verb, words, cli.SHORT) is None


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0 and "inspect" in capsys.readouterr().out
    assert main(["inspect", "--help"]) == 0 and "-o" in capsys.readouterr().out
    assert main(["--version"]) == 0 and capsys.readouterr().out.strip() == __version__
    assert main([]) == 0 and "Usage" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["inspect"], ["inspect", "a", "--nope"], ["nope"], ["inspect", "a", "--format", "yaml"], ["--nope"]])
def test_usage_errors(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error[usage]: ") and "next: see weighbridge" in captured.err


def test_usage_error_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "a", "--nope", "--format", "json"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["code"] == "usage" and captured.err == ""


def test_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "/no/such/folder", "--format=json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["version"]) == ("weighbridge.error/1", __version__)
    assert document["error"].keys() == {"code", "message", "where", "hint"} and document["problems"] == [document["error"]]


def test_all_problems_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(monkeypatch, Refused([Problem("a", "is 1", "x", "do y"), Problem("b", "is 2", "z")]))
    assert main(["inspect"]) == 2
    assert capsys.readouterr().err == "2 problems:\nerror[a]: x: is 1\n  next: do y\nerror[b]: z: is 2\n"


def test_internal_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("WEIGHBRIDGE_DEBUG", raising=False)
    fail_with(monkeypatch, ZeroDivisionError("odd"))
    assert main(["inspect"]) == 101
    err = capsys.readouterr().err
    assert "internal error: ZeroDivisionError: odd" in err and "WEIGHBRIDGE_DEBUG=1" in err and "Traceback" not in err
    monkeypatch.setenv("WEIGHBRIDGE_DEBUG", "1")
    assert main(["inspect"]) == 101
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (PermissionError(13, "Permission denied", "/f"), 2), (RecursionError(), 101)])
def test_other_ends(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    fail_with(monkeypatch, error)
    assert main(["inspect"]) == code


def test_a_verb_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(cli.VERBS, "later", "A verb without a file.")
    assert main(["later"]) == 2 and "no verb 'later'" in capsys.readouterr().err
    assert main(["--help"]) == 0 and "later" not in capsys.readouterr().out


def process(*words: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "weighbridge", *map(str, words)], capture_output=True, check=False, **options)


def test_whole_process(small: Path) -> None:
    done = process("inspect", small, "--format", "json")
    assert (done.returncode, done.stderr) == (0, b"") and json.loads(done.stdout)["tensors"] == 55
    done = process("inspect", small / "nothing")
    assert (done.returncode, done.stdout) == (2, b"") and b"Traceback" not in done.stderr


def test_closed_pipe_is_quiet(small: Path) -> None:
    """The reader leaves before the first byte: no traceback, no complaint at the end of the interpreter."""
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    done = subprocess.run([sys.executable, "-m", "weighbridge", "inspect", str(small)], stdout=reader.stdin, stderr=subprocess.PIPE, check=False)
    assert done.stderr == b"" and done.returncode == 141

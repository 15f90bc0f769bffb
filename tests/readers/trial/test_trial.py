"""`check --try` with a reader that is not there, with false ones, and with probes that lie, hang, crash, grow, or flood."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.cli import main
from weighbridge.errors import Usage
from weighbridge.readers.trial import trial, worker
from weighbridge.readers.trial.answer import MOST_NAMES, NotAnAnswer, Tried, parse
from weighbridge.readers.trial.fold import Fold
from weighbridge.readers.trial.known import READERS, wanted
from weighbridge.readers.trial.worker import Limits
from weighbridge.testing.tiny import write_tiny

GOOD = {"outcome": "loaded", "stage": "weights", "error": "", "version": "0.32.2", "unfilled": [], "partly": [], "ignored": [], "stand_ins": [], "ranks": [0], "of_ranks": 1}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "m")


def python_with(tmp_path: Path, utils: str, version: str = "0.32.2") -> Path:
    """A Python on whose path lies a package `mlx_lm` of our own, whose `utils.load_model` is given."""
    place = tmp_path / "site"
    (place / "mlx_lm").mkdir(parents=True)
    (place / "mlx_lm" / "__init__.py").write_text(f"__version__ = {version!r}\n")
    (place / "mlx_lm" / "utils.py").write_text(textwrap.dedent(utils))
    (place / f"mlx_lm-{version}.dist-info").mkdir()
    (place / f"mlx_lm-{version}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mlx-lm\nVersion: {version}\n")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nPYTHONPATH={place} exec {sys.executable} \"$@\"\n")
    python.chmod(0o755)
    return python


def ask(source: Path, python: Path, **limits: Any) -> Tried:
    (answer,) = trial.tried(open_checkpoint(source), [f"mlx@{python}"], {}, Limits(**{"seconds": 30.0, **limits}))
    return answer


def test_a_reader_that_loads(source: Path, tmp_path: Path) -> None:
    python = python_with(tmp_path, """
        import json
        def load_model(path, lazy, strict, trust_remote_code):
            assert json.loads((path / "config.json").read_text())["model_type"] == "minimax_m2" and not trust_remote_code
            assert list(path.glob("*.safetensors"))
    """)
    answer = ask(source, python)
    assert (answer.outcome, answer.version, answer.error) == ("loaded", "0.32.2", "")
    assert answer.stand_ins


@pytest.mark.parametrize(("body", "outcome", "said"), [
    ("raise ValueError('Model type x not supported.')", "refused", "ValueError: Model type x not supported."),
    ("assert 1 == 2", "refused", "AssertionError (without words) at utils.py:3 `assert 1 == 2`"),
    ("raise ImportError('no module named thing')", "unavailable", "no module named thing"),
    ("raise NotImplementedError('aten::x on CPU')", "unavailable", "aten::x"),
    ("raise RuntimeError('CUDA driver is missing')", "unavailable", "CUDA driver"),
    ("import os; os.kill(os.getpid(), 11)", "unavailable", "signal 11"),
    ("import os; os._exit(3)", "unavailable", "exit 3"),
    ("import time; time.sleep(60)", "unavailable", "stopped after 2 s"),
    ("b = bytearray(400_000_000); import time; time.sleep(60)", "unavailable", "GB of memory"),
    ("import socket; socket.create_connection(('192.0.2.1', 80), 5)", "unavailable", "the network is forbidden here"),
])
def test_what_is_a_refusal_and_what_is_not(body: str, outcome: str, said: str, source: Path, tmp_path: Path) -> None:
    python = python_with(tmp_path, f"\ndef load_model(*given, **named):\n    {body}\n")
    answer = ask(source, python, seconds=2.0, memory=200_000_000) if "sleep" in body else ask(source, python)
    assert answer.outcome == outcome
    assert said in answer.error
    assert answer.stage == "weights"


def test_lists_of_mlx(source: Path, tmp_path: Path) -> None:
    python = python_with(tmp_path, r"""
        def load_model(*given, **named):
            raise ValueError("Missing 2 parameters: \na.weight,\nb.weight.")
    """)
    answer = ask(source, python)
    assert (answer.outcome, answer.unfilled) == ("refused", ("a.weight", "b.weight"))


def test_secrets_stay_here(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HOME", "/root")
    python = python_with(tmp_path, """
        import os
        def load_model(*given, **named):
            raise ValueError(f"{os.environ.get('HF_TOKEN')} {os.environ['HF_HUB_OFFLINE']} {'weighbridge-try' in os.environ['HOME']}")
    """)
    assert ask(source, python).error == "ValueError: None 1 True"


def test_an_unknown_version_is_not_asked(source: Path, tmp_path: Path) -> None:
    answer = ask(source, python_with(tmp_path, "raise SystemExit('asked')", version="0.320.1"))
    assert (answer.outcome, answer.version, answer.stage) == ("unavailable", "0.320.1", "installation")
    assert "was never tried here" in answer.error


def test_not_installed(source: Path) -> None:
    answer = ask(source, Path(sys.executable))
    assert (answer.outcome, answer.stage) == ("unavailable", "installation")
    assert "--try mlx@/path/to/python" in answer.error


@pytest.mark.parametrize("text", ["nothing", "vllm2@x", ""])
def test_unknown_readers(text: str) -> None:
    with pytest.raises(Usage, match="can be tried"):
        wanted([text])


def test_no_python(source: Path) -> None:
    with pytest.raises(Usage, match="is no Python"):
        ask(source, Path("/nowhere/python"))


@pytest.mark.parametrize("change", [
    {"outcome": "fine"}, {"outcome": None}, {"outcome": ["loaded"]}, {"unfilled": "a"}, {"unfilled": [1]}, {"error": 3}, {"ranks": [-1]}, {"ranks": [True]},
    {"ranks": "0"}, {"of_ranks": -1}, {"of_ranks": 1e9}, {"stage": {}}, {"stand_ins": None}, {"ignored": {"a": 1}}])
def test_answers_of_another_form(change: dict[str, Any]) -> None:
    with pytest.raises(NotAnAnswer):
        parse("vllm", GOOD | change, Fold())


def test_long_answers_are_cut_and_counted() -> None:
    answer = parse("vllm", GOOD | {"outcome": "unfilled", "unfilled": [f"n{i}" for i in range(MOST_NAMES + 5)], "error": "x" * 10_000}, Fold())
    assert len(answer.unfilled) == MOST_NAMES
    assert answer.document()["counts"] == {"unfilled": MOST_NAMES + 5, "ignored": 0}
    assert len(answer.error) < 5_000


def test_names_are_the_checkpoints_own() -> None:
    answer = parse("vllm", GOOD | {"ignored": ["model.layers.4.eh_proj.weight"]}, Fold("model.layers.", 61, 4))
    assert answer.ignored == ("model.layers.61.eh_proj.weight",)


@pytest.mark.parametrize("left", ["[]", "{", '"x"', "[" * 100_000])
def test_answers_that_are_no_object(left: str, source: Path, tmp_path: Path) -> None:
    python = python_with(tmp_path, f"""
        import os, pathlib
        def load_model(path, **named):
            (path.parent / "work" / "answer.json").write_text({left!r})
            os._exit(0)
    """)
    answer = ask(source, python)
    assert (answer.outcome, answer.stage) == ("unavailable", "start")


def test_a_flood_ends(source: Path, tmp_path: Path) -> None:
    python = python_with(tmp_path, """
        import sys
        def load_model(path, **named):
            while True:
                sys.stdout.write("x" * 1_000_000)
    """)
    assert ask(source, python).outcome == "unavailable"


def test_the_answer_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(GOOD))
    assert worker._read(path) == GOOD
    monkeypatch.setattr(worker, "ANSWER_LIMIT", 20)
    assert worker._read(path) is None


def test_check_prints_both(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = python_with(tmp_path, "def load_model(*given, **named):\n    raise ValueError('I do not \\x1b[31mwant')\n")
    assert main(["check", str(source), "--try", f"mlx@{python}"]) == 1
    out = capsys.readouterr().out
    assert "tried mlx 0.32.2: refused" in out
    assert "I do not" in out
    assert "\x1b[31mwant" not in out
    assert main(["check", str(source), "--try", f"mlx@{python}", "--format", "json"]) == 1
    (tried,) = json.loads(capsys.readouterr().out)["tried"]
    assert (tried["reader"], tried["outcome"], tried["stage"], tried["error"]) == ("mlx", "refused", "weights", "ValueError: I do not \x1b[31mwant")


def test_unavailable_is_no_finding(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check", str(source)])
    capsys.readouterr()
    assert main(["check", str(source), "--try", f"mlx@{sys.executable}"]) == code
    assert "tried mlx: unavailable" in capsys.readouterr().out


def test_every_probe_is_there() -> None:
    for row in READERS.values():
        assert (worker.PROBES / row.probe).is_file(), row.reader

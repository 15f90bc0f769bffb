"""TERM, HUP and INT end a command with a word, the exit code 128 + n, and no traceback; what was written is gone on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plan.tools import all_bytes, convert
from weighbridge.cli import main
from weighbridge.testing.tiny import EVEN, write_tiny

# The signal comes when the given number of files has its name.
CODE = """
import os, sys
from pathlib import Path
from weighbridge.cli import main
from weighbridge.report import progress
number, after, out = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
def stop(self, done, total):
    global number
    if number and len(list(out.glob("*.safetensors"))) >= after:
        once, number = number, 0
        os.kill(os.getpid(), once)
progress.Progress.__call__ = stop
sys.exit(main(sys.argv[4:]))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("signals") / "src", **EVEN | {"experts": 2, "layers": 5}, shards=4)


def run(number: int, out: Path, *words: object, after: int = 1, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CODE, str(int(number)), str(after), str(out), *map(str, words)], capture_output=True, text=True, check=False, timeout=120,
                          **options)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_convert_says_where_it_stopped_and_goes_on(source, number, tmp_path):
    out = tmp_path / "out"
    done = run(number, out, "convert", source, out, "--to", "hf-bf16")
    assert done.returncode == 128 + number and done.stdout == ""
    assert f"stopped by {number.name}: " in done.stderr and f"files are written in {out}" in done.stderr
    assert "same command goes on" in done.stderr and "Traceback" not in done.stderr
    assert int(done.stderr.split(": ")[-2].split(" of ")[0].split()[-1]) >= 1
    assert not (out / "weighbridge.json").exists()
    assert main(["convert", str(source), str(out), "--to", "hf-bf16", "-o", str(tmp_path / "report")]) == 0
    wanted = convert(source, tmp_path / "wanted", "hf-bf16")
    assert all_bytes(out).keys() == all_bytes(wanted).keys()


def test_the_word_is_json_where_json_was_asked_for(source, tmp_path):
    done = run(signal.SIGTERM, tmp_path / "out", "convert", source, tmp_path / "out", "--to", "hf-bf16", "--format", "json")
    assert done.returncode == 143 and json.loads(done.stdout)["error"]["code"] == "stopped" and done.stderr == ""


def test_other_verbs_end_with_a_word_too(source, tmp_path):
    done = run(signal.SIGTERM, tmp_path / "none", "verify", source, source, after=0)
    assert done.returncode == 143 and "stopped by SIGTERM" in done.stderr and "Traceback" not in done.stderr


def test_nohup_is_obeyed(source, tmp_path):
    out = tmp_path / "out"
    done = run(signal.SIGHUP, out, "convert", source, out, "--to", "hf-bf16", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert done.returncode == 0 and (out / "weighbridge.json").exists()


def test_the_callers_handlers_are_as_before(source):
    def mine(number, frame):
        raise AssertionError

    before = signal.getsignal(signal.SIGHUP)
    previous = signal.signal(signal.SIGTERM, mine)
    try:
        assert main(["inspect", str(source)]) == 0
        assert signal.getsignal(signal.SIGTERM) is mine and signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGTERM, previous)

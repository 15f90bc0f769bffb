"""`weighbridge run` as a user meets it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import weighbridge as wb
from weighbridge.cli import main

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"
KEYS = {"text", "prompt_tokens", "tokens", "tokens_per_second", "bytes_per_token", "peak_memory_bytes"}


def run(capsys: pytest.CaptureFixture[str], *words: object, src: Path = DEMO) -> tuple[int, str, str]:
    code = main([str(word) for word in ("run", src, *words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_stdout_is_the_text_and_stderr_the_talk(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "-p", "In the beginning", "--max-tokens", 12, "--temperature", 0)
    assert code == 0 and out.strip() and "tokens/s" in err and "of weights per token" in err
    assert json.loads(run(capsys, "-p", "In the beginning", "--max-tokens", 12, "--temperature", 0, "--format", "json")[1])["text"] == out.rstrip("\n")


def test_the_document_has_the_keys_of_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(run(capsys, "-p", "And", "--max-tokens", 5, "--format", "json", "--seed", 1)[1])
    assert told["schema"] == "weighbridge.run/1" and KEYS <= told.keys() and len(told["tokens"]) == 5 and told["prompt_tokens"] == 1
    assert told["bytes_per_token"] > 4_000_000 and told["tokens_per_second"] > 0


def test_the_prompt_may_come_from_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("In the beginning"))
    assert run(capsys, "--max-tokens", 12, "--temperature", 0)[1] == run(capsys, "-p", "In the beginning", "--max-tokens", 12, "--temperature", 0)[1]


def test_a_chat_keeps_its_history(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("The LORD is my shepherd.\nWho art thou?\n"))
    code, _, err = run(capsys, "--chat", "--max-tokens", 8, "--seed", 1)
    counts = [int(line.split()[1]) for line in err.splitlines() if line.startswith("prompt ")]
    assert code == 0 and len(counts) == 2 and counts[1] > counts[0] + 8


def test_a_score_has_nats_and_bits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text((DEMO / "heldout.txt").read_text(encoding="utf-8")[:3000], encoding="utf-8")
    told = json.loads(run(capsys, "--score", text, "--format", "json")[1])
    assert 3.0 < told["nats_per_token"] < 4.0 and 1.2 < told["bits_per_byte"] < 1.8 and told["scored_tokens"] > 600


def test_pieces_and_captures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "-p", "And", "--max-tokens", 2, "--layers", "0:2")[0] == 0
    assert run(capsys, "-p", "And he", "--max-tokens", 2, "--capture", tmp_path / "c")[0] == 0 and (tmp_path / "c" / "capture.json").is_file()


def test_neuron_numerics_need_neuron_codes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The device reads the published file's codes from 0x78 on as infinity; converted ones are good, and the tokenizer came along."""
    words = ("-p", "And he", "--max-tokens", 6, "--temperature", 0)
    code, out, err = run(capsys, *words, "--numerics", "neuron")
    assert code == 2 and not out.strip() and "NaN" in err
    assert main(["convert", str(DEMO), str(tmp_path / "n"), "--to", "neuron"]) == 0
    capsys.readouterr()
    code, out, _ = run(capsys, *words, "--numerics", "neuron", src=tmp_path / "n")
    assert code == 0 and len(out.split()) > 2


def test_a_limit_may_come_from_the_environment(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_MEMORY", "1MB")
    code, _, err = run(capsys, "-p", "And")
    assert code == 2 and "1,000,000 bytes are allowed" in err
    monkeypatch.setenv("WEIGHBRIDGE_MEMORY", "much")
    code, _, err = run(capsys, "-p", "And")
    assert code == 2 and "WEIGHBRIDGE_MEMORY" in err

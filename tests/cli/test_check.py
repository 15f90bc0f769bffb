"""`weighbridge check` as a user meets it: exit codes, formats, the command line after `--`, and `--fix`."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.failures.tools import build, llama, m2
from weighbridge.cli import main

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs" / "schemas" / "check-1.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return build(tmp_path / "good", *llama())


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A published M2: raw block FP8, which NxD Inference cannot load."""
    return build(tmp_path / "bad", *m2())


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in ("check", *words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def document(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:
    code, out, _ = run(capsys, *words, "--format", "json")
    told = json.loads(out)
    jsonschema.validate(told, SCHEMA)
    return code, told


def test_clean_is_zero_and_says_so(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, good)
    assert code == 0 and out.strip().endswith("clean")


def test_findings_are_one_and_the_document_keeps_its_schema(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = document(capsys, bad, "--runtime", "neuron,vllm@0.11")
    assert code == 1 and told["runtimes"] == ["neuron", "vllm@0.11"]
    assert told["summary"]["error"] == sum(f["severity"] == "error" for f in told["findings"]) > 0
    assert {f["runtime"] for f in told["findings"] if f["severity"] == "error"} == {"neuron"}


@pytest.mark.parametrize("level, expected", [("error", 0), ("note", 1)])
def test_fail_on_chooses_the_level(tmp_path: Path, level: str, expected: int, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(tmp_path / "m", *llama(), files={"pytorch_model.bin": b"x"})
    assert run(capsys, folder, "--fail-on", level)[0] == expected


def test_select_and_ignore(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = {f["code"] for f in document(capsys, bad, "--runtime", "neuron")[1]["findings"]}
    picked = {f["code"] for f in document(capsys, bad, "--runtime", "neuron", "--select", "WB7")[1]["findings"]}
    left = {f["code"] for f in document(capsys, bad, "--runtime", "neuron", "--ignore", "WB7,WB1")[1]["findings"]}
    assert picked == {c for c in every if c.startswith("WB7")} != set() and left == {c for c in every if not c.startswith(("WB7", "WB1"))}


@pytest.mark.parametrize("words", [
    ("--", "vllm", "serve", "X", "-tp", "8"), ("--command", "vllm serve X --tensor-parallel-size=8"), ("--runtime", "vllm", "--tp", "8"),
    ("--", "python", "-m", "vllm.entrypoints.openai.api_server", "--model", "X", "--tensor-parallel-size", "8"),
])
def test_a_command_line_is_read_as_flags_are(tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(tmp_path / "m", *m2(hidden=1024, inter=1536, heads=8, kv_heads=8))
    code, told = document(capsys, folder, *(words if "--" not in words else ("--format", "json", *words)))
    text = "ValueError: The output_size of gate's and up's weight = 192 is not divisible by weight quantization block_n = 128."
    assert code == 1 and text in [f["consequence"] for f in told["findings"]]


def test_the_words_after_the_dashes_are_not_flags_of_check(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, good, "--format", "json", "--", "vllm", "serve", "X", "--no-such-flag-of-anybody", "3")
    assert json.loads(out)["runtimes"] == ["vllm"] and code == 0


@pytest.mark.parametrize("words, says", [
    (("--runtime", "vlm"), "no runtime 'vlm'"), (("--select", "WB999"), "WB999"), (("--device-memory", "many"), "many"), (("--tp", "-1"), "tp"),
    (("--command", "vllm serve 'X"), "command line"), (("--config", "no-such-file.json"), "no-such-file.json"), (("--no-such-flag",), "no-such-flag"),
])
def test_a_mistake_is_two_and_in_words(good: Path, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, good, *words)
    assert code == 2 and not out and says in err and "Traceback" not in err


def test_a_damaged_checkpoint_is_a_finding_not_a_refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build(tmp_path / "m", *llama())
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(1000)
    code, told = document(capsys, folder, "--runtime", "vllm")
    assert code == 1 and [f["code"] for f in told["findings"]] == ["WB102"]


def test_sarif_has_rules_results_and_places(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, bad, "--runtime", "neuron", "--format", "sarif")
    told = json.loads(out)
    driver, results = told["runs"][0]["tool"]["driver"], told["runs"][0]["results"]
    assert code == 1 and told["version"] == "2.1.0" and driver["name"] == "weighbridge"
    for result in results:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note") and result["message"]["text"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]


def test_github_commands_are_one_line_each(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, bad, "--runtime", "neuron", "--format", "github")
    lines = out.strip().split("\n")
    assert code == 1 and all(line.startswith(("::error file=", "::warning file=", "::notice file=")) for line in lines)


def test_markdown_names_every_finding(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, bad, "--runtime", "neuron")[1]
    out = run(capsys, bad, "--runtime", "neuron", "--format", "markdown")[1]
    assert all(f"{f['severity']} {f['code']}" in out for f in told["findings"])


def test_fix_writes_beside_and_the_result_is_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors, config = llama()
    folder = build(tmp_path / "m", tensors, config, shards={"a.safetensors": list(tensors)[:20], "b.safetensors": list(tensors)[20:]},
                   index={name: "a.safetensors" if i % 2 else "b.safetensors" for i, name in enumerate(tensors)})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    fixed = tmp_path / "fixed"
    code, _, err = run(capsys, folder, "--fix", fixed)
    assert code == 1 and "model.safetensors.index.json" in err
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run(capsys, folder, "--config", fixed)[0] == 0


def test_fix_never_writes_over_anything(bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors, config = m2(use_mtp=True, num_mtp_modules=3)
    folder = build(tmp_path / "m", tensors, config)
    for place in (folder, folder / ".." / "m"):
        code, _, err = run(capsys, folder, "--fix", place)
        assert code == 2 and "own folder" in err
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.json").write_text("{}")
    code, _, err = run(capsys, folder, "--fix", tmp_path / "there")
    assert code == 2 and "is there already" in err and (tmp_path / "there" / "config.json").read_text() == "{}"

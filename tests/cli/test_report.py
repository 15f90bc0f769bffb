"""`weighbridge report` as a user meets it: the file, formats, exit codes, and the same facts as the other verbs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from weighbridge.cli import main
from weighbridge.testing.tiny import EVEN, write_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("cli-report") / "m", **EVEN)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def document(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    code, out, _ = run(capsys, "report", *words, "--format", "json")
    assert code == 0
    return json.loads(out)


def test_the_page_is_report_html_and_its_size_is_told(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "report", tiny)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert code == 0 and out == "" and page.startswith("<!doctype html>")
    size = (tmp_path / "report.html").stat().st_size
    assert err == f"wrote report.html, {-(-size // 1000):,} kB\n" and size < 2_000_000


def test_a_named_file_and_stdout(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "report", tiny, "-o", tmp_path / "a.html")[0] == 0
    code, out, err = run(capsys, "report", tiny, "--output=-")
    assert (code, err) == (0, "") and out == (tmp_path / "a.html").read_text(encoding="utf-8")
    assert run(capsys, "report", tiny, "-o", tmp_path / "a.json")[0] == 0
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["schema"] == "weighbridge.report/1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "a.json"]


def test_json_goes_to_stdout_and_holds_what_the_verbs_say(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--runtime", "vllm,neuron", "--tp", 4, "--enable-expert-parallel", "--device-memory", "1MB")
    told = document(capsys, tiny, *flags)
    for verb, words in (("inspect", ()), ("check", flags), ("draw", ())):
        _, out, _ = run(capsys, verb, tiny, *words, "--format", "json")
        said = json.loads(out)
        assert {key: said[key] for key in said if key != "version"} == {key: told[verb][key] for key in told[verb] if key != "version"}, verb
    assert told["memory"]["device_memory"] == 1_000_000 and told["ways"]["to"] == "neuron"
    assert told["commands"]["check"] == f"weighbridge check {tiny} --runtime vllm,neuron --device-memory 1MB --tp 4 --enable-expert-parallel"


def test_the_commands_can_be_run(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, tiny, "--runtime", "neuron", "--tp", 4)
    assert run(capsys, *told["commands"]["check"].split()[1:])[0] == 1
    trace = told["commands"]["trace"].replace("TENSOR", "model.layers.1.self_attn.q_proj.weight").split()[1:]
    assert run(capsys, *trace)[0] == 0


def test_configuration_files_and_a_command_line(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = json.loads((tiny / "config.json").read_text(encoding="utf-8")) | {"model_type": "nobody_knows"}
    (tmp_path / "config.json").write_text(json.dumps(changed), encoding="utf-8")
    told = document(capsys, tiny, "--config", tmp_path / "config.json", "--command=vllm serve x -tp 8 --enable-expert-parallel")
    assert told["model_type"] == "nobody_knows" and told["check"]["runtimes"] == ["vllm"] and told["ways"]["to"] == "hf-bf16"
    assert told["notes"] == []


def test_layouts(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, tiny, "--to", "hf-bf16")["ways"]["to"] == "hf-bf16"
    assert run(capsys, "report", tiny, "--to", "nowhere")[0] == 2
    assert run(capsys, "report", tiny, "--runtime", "nobody")[0] == 2


def test_against_is_three_when_it_is_not_the_same(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "report", tiny, "--against", tiny, "-o", tmp_path / "a.html")[0] == 0
    other = write_tiny(tmp_path / "other", **EVEN, seed=3)
    assert run(capsys, "report", tiny, "--against", other, "-o", tmp_path / "b.html")[0] == 3
    broken = shutil.copytree(tiny, tmp_path / "broken")
    (broken / "config.json").write_text("{")
    assert run(capsys, "report", tiny, "--against", broken, "-o", tmp_path / "c.html")[0] == 3
    assert run(capsys, "report", tiny, "--against", tmp_path / "none", "-o", tmp_path / "d.html")[0] == 2
    assert not (tmp_path / "d.html").exists()


def test_a_broken_checkpoint_has_a_page(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = shutil.copytree(tiny, tmp_path / "broken")
    next(broken.glob("*.safetensors")).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    code, _, err = run(capsys, "report", broken, "--runtime", "vllm", "-o", tmp_path / "a.html")
    assert code == 0 and "Traceback" not in err and "lfs" in (tmp_path / "a.html").read_text(encoding="utf-8").lower()


def test_no_such_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "report", tmp_path / "none")[0] == 2
    assert list(tmp_path.iterdir()) == []

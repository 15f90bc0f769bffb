"""The Python face says what the command line says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import weighbridge as wb
from weighbridge.cli import main
from weighbridge.cli.demo import CHECKPOINT
from weighbridge.errors import Usage

TENSOR = "layers.0.self_attn.k_proj"


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> dict:
    main([*command, "--format", "json"])
    return {key: value for key, value in json.loads(capsys.readouterr().out).items() if key != "version"}


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(json.dumps(wb.explain("e4m3fn"))) == printed(capsys, "explain", "e4m3fn")
    told = wb.open(CHECKPOINT).explain(TENSOR, at=(5, 200))
    assert json.loads(json.dumps(told)) == printed(capsys, "explain", str(CHECKPOINT), TENSOR, "--at", "5,200")
    with pytest.raises(Usage):
        wb.explain("no-such-word")


def test_compare(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = wb.open(CHECKPOINT)
    model.convert(tmp_path / "n", "neuron", attention="exact")
    told = model.compare(tmp_path / "n", [[1, 2, 3, 4], [9, 8]], tokens=4)
    said = printed(capsys, "compare", str(CHECKPOINT), str(tmp_path / "n"), "--ids", "1,2,3,4", "--ids", "9,8", "--max-tokens", "4")
    assert told["ok"] and set(told) <= set(said)
    assert (told["positions"], told["kl"], [row["name"] for row in told["layers"]]) == (said["positions"], said["kl"], [row["name"] for row in said["layers"]])


@pytest.mark.parametrize("ask", [lambda m: m.check("vllm", tpp=8), lambda m: m.draw("vllm", tpp=8), lambda m: m.report("vllm", tpp=8)])
def test_an_unknown_setting_is_named(ask) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Usage, match="tpp"):
        ask(wb.open(CHECKPOINT))

"""`wb.open(src).check(…)`: the same document as the command line's."""

from __future__ import annotations

from pathlib import Path

import pytest

import weighbridge as wb
from tests.failures.tools import build, llama, m2
from weighbridge.errors import Usage


def test_the_document(tmp_path: Path) -> None:
    folder = build(tmp_path / "m", *m2(hidden=1024, inter=1536, heads=8, kv_heads=8))
    told = wb.open(folder).check("vllm", tp=8)
    assert told["schema"] == "weighbridge.check/1" and [f["code"] for f in told["findings"] if f["severity"] == "error"] == ["WB502"]
    assert wb.open(folder).check("vllm", tp=8, expert_parallel=True)["summary"]["error"] == 0


def test_an_unknown_setting_is_refused_in_words(tmp_path: Path) -> None:
    folder = build(tmp_path / "m", *llama(1))
    with pytest.raises(Usage, match="tensor_parallel"):
        wb.open(folder).check("vllm", tensor_parallel=8)

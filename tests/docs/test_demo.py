"""The pictures that `make demo` leaves are those of the README and of the guide."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from weighbridge.cli import main
from weighbridge.cli.demo import CHECKPOINT, SOURCE, steps

ROOT = Path(__file__).resolve().parents[2]
DRAWN = {command[-1]: command for _, command, _ in steps() if command[-1].endswith(".svg")}


@pytest.mark.parametrize("name", DRAWN)
def test_the_demo_draws_the_pictures_of_the_docs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(SOURCE).symlink_to(CHECKPOINT)
    assert main(DRAWN[name]) == 0
    assert Path(name).read_bytes() == (ROOT / "docs" / "fp8" / name).read_bytes(), "make docs draws it again"


def test_the_readme_shows_them() -> None:
    shown = re.findall(r"!\[[^\]]*\]\((?:docs/fp8/)([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(shown) == set(DRAWN)

"""Every row of the collection of failures that files and settings can show: the bad one is named, its twin is clean."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from tests.failures.tools import Row
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.run import findings, targets
from weighbridge.check.settings import Settings
from weighbridge.checkpoint.source import open_checkpoint

HERE = Path(__file__).resolve().parent
MODULES = [import_module(f"tests.failures.{path.stem}") for path in sorted(HERE.glob("rows_*.py"))]
ROWS: list[Row] = [row for module in MODULES for row in module.ROWS]


def check(folder: Path, row: Row, settings: dict) -> list[Finding]:
    case = Case(open_checkpoint(folder, lenient=True), targets([row.runtimes] if row.runtimes else []), Settings(**settings))
    return findings(case)


def said(finding: Finding) -> str:
    return " ".join([finding.title, finding.where.file, finding.where.tensor, finding.where.module, finding.where.key, finding.evidence,
                     finding.consequence, finding.fix.text, str(finding.fix.value)])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_the_fault_is_found(row: Row, tmp_path: Path) -> None:
    found = check(row.bad(tmp_path / "bad"), row, dict(row.settings))
    hits = [f for f in found if f.code == row.code and f.severity == row.severity]
    assert hits, f"{row.label}: no {row.severity} {row.code}; found {[(f.code, f.severity, f.title) for f in found]}"
    assert any(row.where in said(f) for f in hits), f"{row.label}: {row.where!r} is not in {[said(f) for f in hits]}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_the_twin_is_clean(row: Row, tmp_path: Path) -> None:
    found = check(row.good(tmp_path / "good"), row, dict(row.settings if row.good_settings is None else row.good_settings))
    loud = [f for f in found if f.severity != "note"]
    assert not loud, f"{row.label}: {[(f.code, f.title, f.evidence, said(f)) for f in loud]}"

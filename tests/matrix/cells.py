"""One cell of the matrix: convert, verify, look with other eyes, and go back. What may not be is an AssertionError with the cell's name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

import weighbridge as wb
from tests.matrix import values as v
from tests.matrix.sources import Made, read_parts, tensors_of
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.rows import ROWS

TARGETS = (*ROWS, "neuron")
# Words of a refusal that would be false: the tensors are here, whole, and belong to the model.
FALSE_WORDS = ("no file holds it", "download", "surplus", "damaged", "missing", "belongs to no weight", "internal error")
MOST = 2.0**-20  # of the largest value: what two orders of float32 roundings may come to


class Cell(NamedTuple):
    """`grade`: exact, bounded or refused; `inexact`: only with --inexact."""

    grade: str
    db: float | None = None
    says: str = ""
    inexact: bool = False
    back: str = ""  # of exact cells: `bytes` (the way back gives equal bytes), or why there is none

    def short(self) -> str:
        """For a table: `=`, decibels (`*` with --inexact), or a dash."""
        if self.grade == "refused":
            return "-"
        return "=" if self.grade == "exact" else f"{self.db:.0f}{'*' if self.inexact else ''}"


def run(made: Made, target: str, work: Path, module: str) -> Cell:
    """Convert `made` to `target`, without and then with --inexact, and grade it. `module` is decoded by plain numpy on both sides."""
    shutil.rmtree(work, ignore_errors=True)
    model = wb.open(made.folder)
    inexact = False
    try:
        model.convert(work / "to", target)
    except wb.WeighbridgeError as error:
        told = _words(error)
        if not any("--inexact" in p.hint for p in error.problems):
            return Cell("refused", says=told)
        inexact = True
        shutil.rmtree(work, ignore_errors=True)
        try:
            model.convert(work / "to", target, inexact=True)
        except wb.WeighbridgeError as second:
            return Cell("refused", says=_words(second))
    report = model.verify(work / "to")
    assert report["ok"], f"verify: {report['grades']} missing {report['missing'][:2]} surplus {report['surplus'][:2]} worst {report['worst']}"
    assert report["how"] == "values"
    exact = not report["grades"]["bounded"]
    db = report["total_sqnr_db"]
    _look(made, work / "to", module, exact, target)
    if not exact:
        assert db is not None and db > 3, f"bounded, and {db} dB"
        return Cell("bounded", db, inexact=inexact)
    return Cell("exact", inexact=inexact, back=_back(made, work, target))


def _words(error: wb.WeighbridgeError) -> str:
    """The first finding, in words that are true."""
    problem = error.problems[0]
    text = f"{problem.message} {problem.hint}"
    assert problem.message and not any(word in text for word in FALSE_WORDS), f"false words: {error.problems[:2]}"
    assert len({(p.message, p.code) for p in error.problems}) <= 12, f"{len(error.problems)} findings are not folded"
    return problem.message


def _look(made: Made, to: Path, module: str, exact: bool, target: str) -> None:
    """Both sides of one weight by plain numpy; of Neuron's layout, whose axes are others, `verify` is the only witness."""
    if target == "neuron":
        return
    before = made.decoded(module)
    parts = read_parts(to, module)
    assert parts, f"{module} is not in the output"
    block = made.form.block if target in ("hf-fp8", "ct-fp8-block") else (128, 128)
    after = v.decode(parts, made.linear[module], block=block, bits=4)
    error = np.abs(before - after)
    if exact:
        assert error.max() <= MOST * np.abs(before).max(), f"{module}: {error.max():g} off, and verify says exact"
    else:
        size = float((before.astype(np.float64) ** 2).sum()) / max(float((error.astype(np.float64) ** 2).sum()), 1e-30)
        assert size > 2, f"{module}: {10 * np.log10(size):.1f} dB by plain numpy"


def _back(made: Made, work: Path, target: str) -> str:
    """The way back: equal bytes in every tensor of the source, but for those that say nothing of values."""
    layouts = {SCHEMES[name].layout or next((r.name for r in ROWS.values() if name in r.schemes), "") for name in made.form.schemes} if made.form.schemes else {"hf-bf16"}
    layout = layouts.pop() if len(layouts) == 1 else ""
    if not layout or made.form.back is None:
        return "read only"
    options = dict(made.form.back)
    wb.open(work / "to").convert(work / "back", layout, **options)
    assert wb.open(made.folder).verify(work / "back")["ok"], "the way back"
    was, now = tensors_of(made.folder), tensors_of(work / "back")
    names = {n for n in was if not n.endswith((".g_idx", ".weight_format"))}
    assert names <= now.keys(), f"the way back lacks {sorted(names - now.keys())[:3]}"
    unlike = [n for n in names if was[n][0] != now[n][0] or was[n][1].tobytes() != now[n][1].tobytes()]
    return "bytes" if not unlike else f"{len(unlike)} of {len(names)} tensors have other bytes: {sorted(unlike)[0]}"

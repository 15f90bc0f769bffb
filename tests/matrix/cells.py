"""One cell of the matrix: convert, verify, look with other eyes, and go back. What may not be is an AssertionError with the cell's name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

import weighbridge as wb
from tests.matrix import values as v
from tests.matrix.sources import Made, read_parts, tensors_of
from weighbridge.layouts.rows import ROWS

TARGETS = (*ROWS, "neuron")
# Words of a refusal that would be false: the tensors are here, whole, and belong to the model.
FALSE_WORDS = ("no file holds it", "download", "surplus", "damaged", "missing", "belongs to no weight", "internal error")
OPENING = {"--zero-points": "zero_points", "--inexact": "inexact"}  # flags of a hint that open a way
MOST = 2.0**-20  # of the largest value: what two orders of float32 roundings may come to


class Cell(NamedTuple):
    """`grade`: exact, bounded or refused."""

    grade: str
    db: float | None = None
    says: str = ""
    options: tuple[str, ...] = ()  # what the refusal named and the second run was given
    back: str = ""  # of exact cells: `bytes` (the way back gives equal bytes), else what it gives

    def short(self) -> str:
        """For a table: `=`, decibels (`*` with --inexact), or a dash."""
        mark = "*" if "inexact" in self.options else "z" if "zero_points" in self.options else ""
        return "-" if self.grade == "refused" else ("=" if self.grade == "exact" else f"{self.db:.0f}") + mark


def run(made: Made, target: str, work: Path, module: str) -> Cell:
    """Convert `made` to `target`, without and then with --inexact, and grade it. `module` is decoded by plain numpy on both sides."""
    shutil.rmtree(work, ignore_errors=True)
    model = wb.open(made.folder)
    options: dict[str, bool] = {}
    while True:
        try:
            model.convert(work / "to", target, **options)
            break
        except wb.WeighbridgeError as error:
            says, hints = _words(error), " ".join(p.hint for p in error.problems)
            more = next((flag for flag in OPENING if flag in hints and OPENING[flag] not in options), "")
            if not more:
                return Cell("refused", says=says)
            options[OPENING[more]] = True
            shutil.rmtree(work, ignore_errors=True)
    report = model.verify(work / "to")
    assert report["ok"], f"verify: {report['grades']} missing {report['missing'][:2]} surplus {report['surplus'][:2]} worst {report['worst']}"
    assert report["how"] == "values"
    exact = not report["grades"]["bounded"]
    db = report["total_sqnr_db"]
    _look(made, work / "to", module, exact, target)
    if not exact:
        assert db is not None and db > 3, f"bounded, and {db} dB"
        return Cell("bounded", db, options=tuple(options))
    return Cell("exact", options=tuple(options), back=_back(made, work, target))


def run_named(made: Made, target: str, work: Path) -> Cell:
    """`run`, with another weight under plain numpy for each target; what goes wrong is named by its cell."""
    modules = list(made.linear)
    try:
        return run(made, target, work, modules[TARGETS.index(target) % len(modules)])
    except Exception as error:
        raise AssertionError(f"{made.name} to {target}: {type(error).__name__}: {error}") from error


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
    """The way back to the form of the source: `bytes` where every tensor is as it was, else how equal the values are."""
    if made.form.back is None:
        return "read only"
    layout = made.form.layout
    try:
        wb.open(work / "to").convert(work / "back", layout, **made.form.back)
    except wb.WeighbridgeError as error:
        return f"refused: {_words(error)}"
    report = wb.open(made.folder).verify(work / "back")
    assert report["ok"], f"the way back: {report['worst']}"
    was, now = tensors_of(made.folder), tensors_of(work / "back")
    names = {n for n in was if not n.endswith((".g_idx", ".input_scale"))}
    if names <= now.keys() and all(was[n][0] == now[n][0] and was[n][1].tobytes() == now[n][1].tobytes() for n in names):
        return "bytes"
    return "values" if not report["grades"]["bounded"] else f"{report['total_sqnr_db']:.0f} dB"

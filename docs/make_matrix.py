"""Writes docs/matrix.md: every stored form x every layout on three small families, each cell converted, verified, looked at by plain numpy, and gone back.

    python docs/make_matrix.py        # some minutes on two cores
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PAGE = ROOT / "docs" / "matrix.md"
HEAD = """# Every way, tried

Rows are stored forms, columns are layouts for `--to`. Each cell was converted from a small random checkpoint, graded by `weighbridge verify SRC DST`, and one of its
weights was decoded on both sides by plain numpy. `python docs/make_matrix.py` makes this page; `make test-matrix` runs every cell again.

* `=`: every value is equal. A cell with `=` was converted back where its form can be written; below the tables stands what did not give equal bytes.
* a number: signal to error in dB, over all weights; every value lies within the bound that the plan states.
* `*` behind it: refused at first, because something would be rounded; this is the result with `--inexact`. `z`: with `--zero-points`.
* a dash: refused; below the tables stands why.

Weights are normal with rows of different size: decibels of a real model differ by a little. One hop from codes to other codes adds to what the first ones had lost already.
"""
SAYS = {"dense": "Llama, one layer", "experts": "MiniMax-M2, one layer of two experts", "latent": "DeepSeek-V3, a dense layer, one of experts, and the draft layer"}


def cells_of(job: tuple[str, str]) -> dict[str, tuple]:
    """All cells of one row."""
    from tests.matrix import cells, sources

    family, form = job
    with tempfile.TemporaryDirectory(prefix="matrix") as folder:
        made = sources.write(Path(folder) / "from", family, form)
        return {target: tuple(cells.run_named(made, target, Path(folder) / "work")) for target in cells.TARGETS}


def page(results: dict[tuple[str, str], dict[str, tuple]]) -> str:
    """The page; the same cells give the same bytes."""
    from tests.matrix.cells import TARGETS, Cell

    lines, why, back = [HEAD], {}, {}
    for family, says in SAYS.items():
        lines += [f"## {family.capitalize()}: {says}", "", "| form | " + " | ".join(f"`{t}`" for t in TARGETS) + " |", "| --- " * (len(TARGETS) + 1) + "|"]
        for (own, form), row in results.items():
            if own == family:
                found = {target: Cell(*cell) for target, cell in row.items()}
                lines.append(f"| {form} | " + " | ".join(found[t].short() for t in TARGETS) + " |")
                for target, cell in found.items():
                    if cell.grade == "refused":
                        why.setdefault(cell.says, set()).add(target)
                    elif cell.grade == "exact" and cell.back not in ("bytes", "read only"):
                        back.setdefault(cell.back, set()).add(f"{form} by {target}")
        lines.append("")
    lines += ["## Why not", "", *(f"* {_list(targets)}: {says}." for says, targets in sorted(why.items())), "", "## Exact, and the way back gives other bytes", "",
              "`values`: every value is equal, under other codes and scales.", "", *(f"* {says}: {_list(names)}" for says, names in sorted(back.items()))]
    return "\n".join(lines).rstrip() + "\n"


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def main() -> None:
    from tests.matrix import sources

    jobs = [(family, form) for family in SAYS for form in sources.forms_of(family)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = dict(zip(jobs, pool.map(cells_of, jobs), strict=True))
    PAGE.write_text(page(results), encoding="utf-8")
    print(f"{PAGE.name}: {sum(map(len, results.values())):,} cells")


if __name__ == "__main__":
    main()

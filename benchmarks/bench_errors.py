"""What each form of the Neuron layout loses, on Gaussian weights in 128x128 block FP8.

    python -m benchmarks.bench_errors

Prints relative RMS error and SQNR of q/k/v, o_proj and the experts against the published layout, for every
`--attention` and for the two scale rules. `convert --dry-run` quotes the first table.
"""
from __future__ import annotations

import math
import tempfile
from pathlib import Path

import weighbridge as wb
from weighbridge.report.table import text_table
from weighbridge.testing.replica import write_replica

GROUPS = {"q/k/v": ("q_proj", "k_proj", "v_proj"), "o_proj": ("o_proj",), "experts": (".w1", ".w2", ".w3")}


def loss(source: Path, out: Path, **options: object) -> list[str]:
    """Error of each group of weights after one conversion, as text."""
    wb.open(source).convert(out, "neuron", **options)
    rows = wb.open(source).verify(out)["inexact"]
    cells = []
    for endings in GROUPS.values():
        group = [r["sqnr_db"] for r in rows if r["name"].removesuffix(".weight").endswith(endings) and r["sqnr_db"] is not None]
        if not group:
            cells.append("equal")
            continue
        relative = math.sqrt(sum(10 ** (-db / 10) for db in group) / len(group))
        cells.append(f"{100 * relative:.3g} % ({-20 * math.log10(relative):.1f} dB)")
    return cells


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = write_replica(Path(folder) / "source", layers=1, experts=8, vocab=1024, data="random")
        rows = []
        for attention in ("published", "row", "bf16", "exact"):
            rows.append([f"--attention {attention}", *loss(source, Path(folder) / attention, attention=attention)])
        rows.append(["--attention exact --scale-rule legacy-448-240",
                     *loss(source, Path(folder) / "legacy", attention="exact", scale_rule="legacy-448-240")])
        print(text_table(("options", *GROUPS), rows))


if __name__ == "__main__":
    main()

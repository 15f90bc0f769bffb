"""`weighbridge verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

OUT_OF_BOUND = 3


def verify(
    a: str,
    b: str,
    *,
    sample: int = 0,
    seed: int = 0,
    format: Literal["text", "json", "markdown"] = "text",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Do A and B hold the same weights? Exit 3 when anything is missing, surplus or out of its bound, exit 2 when it cannot be read.

    Parameters
    ----------
    a
        The checkpoint to compare with, in any layout.
    b
        The one that is judged, in any layout of the same model.
    sample
        Compare only this many weights, taken at random. 0 compares all.
    seed
        Seed of the sample.
    format
        text, json or markdown.
    output
        Write the report to this file.
    """
    from weighbridge.api import Model
    from weighbridge.report import sink
    from weighbridge.report.progress import Progress
    from weighbridge.report.verify import text as verify_text
    from weighbridge.verify.run import verify as run

    progress = Progress("verify")
    try:
        report = run(Model(a).checkpoint, Model(b).checkpoint, sample=sample, seed=seed, progress=progress)
    finally:
        progress.close()
    document = {"schema": "weighbridge.verify/1", **report.document()}
    sink.emit(document, lambda: verify_text.verify_text(document), lambda: verify_text.verify_text(document, markdown=True), format, output)
    return 0 if report.ok else OUT_OF_BOUND

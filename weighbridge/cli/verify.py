"""`weighbridge verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from weighbridge.errors import Usage

OUT_OF_BOUND = 3


def verify(
    a: str,
    b: str | None = None,
    *,
    sample: int = 0,
    seed: int = 0,
    format: Literal["text", "json", "markdown"] = "text",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Do A and B hold the same weights? Exit 3 when anything is missing, surplus or out of its bound, exit 2 when it cannot be read.

    With A alone: is every file of that output still what `convert` wrote? Exit 3 when one is missing or has other bytes.

    Parameters
    ----------
    a
        The checkpoint to compare with, in any layout. Alone: a folder with a manifest.
    b
        The one that is judged, in any layout of the same model. Without it, A is compared with its own manifest.
    sample
        Compare only this many weights, taken at random. 0 compares all.
    seed
        Seed of the sample.
    format
        text, json or markdown.
    output
        Write the report to this file.
    """
    if b is None:
        return _folder(a, sample, format, output)
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
    sink.emit(document, verify_text.verify_text, lambda d: verify_text.verify_text(d, markdown=True), format, output)
    return 0 if report.ok else OUT_OF_BOUND


def _folder(folder: str, sample: int, format: str, output: Path | None) -> int:
    """One argument: a folder against its own manifest."""
    from weighbridge.convert.contents import verify_folder
    from weighbridge.report import sink
    from weighbridge.report.progress import Progress
    from weighbridge.report.verify import folder_text

    if sample:
        raise Usage("a sample is of the weights of two checkpoints; a folder is compared with its manifest as a whole", "--sample",
                    "leave out --sample, or name B")
    progress = Progress("verify")
    try:
        document = {"schema": "weighbridge.verify-folder/1", **verify_folder(Path(folder), progress)}
    finally:
        progress.close()
    sink.emit(document, folder_text.folder_text, lambda d: folder_text.folder_text(d, markdown=True), format, output)
    return 0 if document["ok"] else OUT_OF_BOUND

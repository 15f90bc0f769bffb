"""`verify` for the report: the document, and the weights that came out least equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weighbridge.check.case import Case
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.errors import Refused

LEAST = 20


def verified(case: Case, other: Checkpoint, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """`weighbridge.verify/1` with `least_equal`: rows of the weights that are not identical, the fewest equal values first.

    Raises `Refused` where one of the two cannot be read as a model.
    """
    from weighbridge.verify.run import verify

    unread = case.checkpoint.fatal + other.fatal
    if unread:
        raise Refused(unread)
    report = verify(case.checkpoint, other, progress=progress)
    unequal = [grade for grade in report.grades if grade.grade != "identical"]
    unequal.sort(key=lambda grade: (grade.grade != "wrong", grade.equal / grade.values if grade.values else 1.0, grade.name))
    return {"schema": "weighbridge.verify/1", **report.document(), "least_equal": [grade.row() for grade in unequal[:LEAST]]}

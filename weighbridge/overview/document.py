"""The document of `report`: what `inspect`, `check`, `draw`, `verify` and the plan know of one checkpoint, each thing read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from weighbridge.version import __version__
from weighbridge.check import run
from weighbridge.check.case import Case
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.collector import paused
from weighbridge.errors import Usage, WeighbridgeError
from weighbridge.inspection.document import inspect
from weighbridge.overview.commands import commands
from weighbridge.overview.groups import Kindred, kindreds
from weighbridge.overview.layers import layer_map
from weighbridge.overview.memory import memory
from weighbridge.overview.statistics import scales
from weighbridge.overview.tensors import tensors

if TYPE_CHECKING:
    from weighbridge.overview.ways import Ways

SCHEMA = "weighbridge.report/1"
T = TypeVar("T")
Progress = Callable[[int, int], None]


class _Notes(list[dict[str, str]]):
    """Why a part of the document is not there, or not whole."""

    def part(self, name: str, make: Callable[[], T]) -> T | None:
        """What `make` gives, or None where the checkpoint does not allow it."""
        try:
            return make()
        except Usage:
            raise
        except WeighbridgeError as error:
            self.say(name, str(error.first))
            return None

    def say(self, name: str, reason: str) -> None:
        self.append({"part": name, "reason": reason})


def document(case: Case, *, to: str = "", against: Checkpoint | None = None, words: Sequence[str] | None = None,
             progress: Progress | None = None) -> dict[str, Any]:
    """`weighbridge.report/1` (docs/schema.md) of a case. A part that cannot be made is null, and `notes` says why.

    `to` is a layout (empty: the one that suits); `words` the flags of `check` as they were typed; `progress` is told of `verify` alone.
    Raises `WeighbridgeError` where `check` does.
    """
    notes, checkpoint = _Notes(), case.checkpoint
    with paused():
        checked = run.document(case, run.findings(case))
        if checkpoint.fatal:
            _partial(notes, checkpoint)
        kin = notes.part("tensors", lambda: kindreds(case)) or []
        ways = None if checkpoint.fatal else notes.part("ways", lambda: _ways(case, kin, to, notes))
        whole: dict[str, Any] = {
            "schema": SCHEMA, "version": __version__, "source": checkpoint.label, "model_type": checkpoint.model_type or None,
            "inspect": notes.part("inspect", lambda: inspect(checkpoint, case.survey)),
            "check": checked,
            "commands": commands(case, ways.plan.layout if ways else "", against.label if against else "", words),
            "draw": None if checkpoint.fatal else notes.part("draw", lambda: _draw(case)),
            "map": notes.part("map", lambda: layer_map(kin)),
            "scales": notes.part("scales", lambda: scales(case, kin)),
            "memory": None if checkpoint.fatal else notes.part("memory", lambda: memory(case)),
            "tensors": notes.part("tensors", lambda: tensors(case, kin, ways)),
            "ways": ways.document() if ways else None,
        }
    whole["verify"] = notes.part("verify", lambda: _verified(case, against, progress))
    return {**whole, "notes": list(notes)}


def _partial(notes: _Notes, checkpoint: Checkpoint) -> None:
    """A checkpoint that cannot be read whole is shown as far as it can be; what would add up a part of it to a wrong whole is left out."""
    more = f", and {len(checkpoint.fatal) - 1:,} more" if len(checkpoint.fatal) > 1 else ""
    reason = f"the checkpoint cannot be read whole: {checkpoint.fatal[0]}{more}"
    notes.say("checkpoint", f"{reason}; what is shown is of what could be read")
    for part in ("ways", "draw", "memory"):
        notes.say(part, reason)


def _ways(case: Case, kin: list[Kindred], to: str, notes: _Notes) -> Ways | None:
    from weighbridge.overview.chosen import plan_to
    from weighbridge.overview.ways import Ways

    plan = plan_to(case, to)
    if plan.problems:
        more = f", and {len(plan.problems) - 1:,} more" if len(plan.problems) > 1 else ""
        notes.say("ways", f"the plan to {plan.layout} cannot be carried out: {plan.problems[0]}{more}")
    return Ways(plan, kin) if plan.targets else None


def _draw(case: Case) -> dict[str, Any]:
    from weighbridge.drawing.document import document as draw

    return draw(case)


def _verified(case: Case, against: Checkpoint | None, progress: Progress | None) -> dict[str, Any] | None:
    from weighbridge.overview.verified import verified

    return verified(case, against, progress) if against is not None else None

"""The Python face: `wb.open(src)` and what one can ask of it. Each verb is one method with a plain result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.collector import paused
from weighbridge.errors import Usage
from weighbridge.layouts.options import Options

if TYPE_CHECKING:
    from weighbridge.check.settings import Settings
    from weighbridge.convert.run import Progress, Result
    from weighbridge.engine.generate import Model as Talker
    from weighbridge.plan.bind import Source
    from weighbridge.plan.plan import Plan
    from weighbridge.torch_view import TorchView


class Model:
    """An opened checkpoint. Headers are read; weights are read by the verb that needs them."""

    def __init__(self, src: str | os.PathLike[str]) -> None:
        self.checkpoint: Checkpoint = open_checkpoint(src)

    @cached_property
    def source(self) -> Source:
        """The checkpoint seen through its own layout."""
        from weighbridge.plan.bind import bind

        return bind(self.checkpoint)

    def inspect(self) -> dict[str, Any]:
        """What is in it: see `docs/schema.md`, `weighbridge.inspect/1`."""
        from weighbridge.inspection import inspect

        return inspect(self.checkpoint)

    def check(self, *runtimes: str, **settings: Any) -> dict[str, Any]:
        """Findings against `runtimes` (`vllm`, `neuron`, …; a version as `vllm@0.11`): see `weighbridge.check/1`.

        Settings are those of the command line with underscores: tp, ep, expert_parallel, moe_tp, moe_ep, batch, context, device_memory (bytes), …
        """
        from weighbridge.check import run
        from weighbridge.check.case import Case

        case = Case(self.checkpoint, run.targets(runtimes), _settings(settings))
        return run.document(case, run.findings(case))

    def draw(self, runtime: str = "", *, to: str = "", **settings: Any) -> dict[str, Any]:
        """The architecture as a tree, of one rank of `runtime`, or the way `to` another layout: see `weighbridge.draw/1`.

        Settings are those of the command line with underscores: with `runtime` tp, ep, expert_parallel, moe_tp, moe_ep; with `to` those of `convert`.
        """
        from weighbridge.check import run
        from weighbridge.check.case import Case
        from weighbridge.drawing.document import document

        if runtime and to:
            raise Usage("a rank of a runtime, or a conversion: not both", "runtime, to", "give one of them")
        if to:
            plan = self.plan(to, **settings)
            plan.refuse()
            return document(Case(self.checkpoint), None, plan)
        target = run.one_target(runtime) if runtime else None
        return document(Case(self.checkpoint, (target,) if target else (), _settings(settings)), target)

    def report(self, *runtimes: str, to: str = "", against: str | os.PathLike[str] | Model | None = None, **settings: Any) -> dict[str, Any]:
        """Everything that is known of it in one document, for a page: see `weighbridge.report/1`.

        Runtimes and settings are those of `check`, `to` is the layout to which the ways of tensors are shown, `against` what it is verified with.
        """
        from weighbridge.check import run
        from weighbridge.check.case import Case
        from weighbridge.overview.document import document

        other = against.checkpoint if isinstance(against, Model) else open_checkpoint(against) if against is not None else None
        return document(Case(self.checkpoint, run.targets(runtimes), _settings(settings)), to=to, against=other)

    def plan(self, layout: str, **options: Any) -> Plan:
        """The plan to `layout`. Options are those of `convert` with underscores; problems are in the plan."""
        return plan_for(self.checkpoint, layout, **options)

    def ways(self) -> dict[str, Any]:
        """Where these weights can go: each layout with its readers, bytes, and what it loses. The document of `convert SRC` without a layout."""
        from weighbridge.convert.menu import document

        return document(self.source)

    def convert(self, destination: str | os.PathLike[str], layout: str, *, progress: Progress | None = None, **options: Any) -> Result:
        """Carry the plan out. Raises `Refused` with all findings before the first write."""
        from weighbridge.convert.run import convert

        return convert(self.plan(layout, **options), Path(destination), progress)

    def verify(self, other: str | os.PathLike[str] | Model, *, sample: int = 0, seed: int = 0) -> dict[str, Any]:
        """Grade every weight of this checkpoint against `other`: see `weighbridge.verify/1`."""
        from weighbridge.verify.run import verify

        against = other if isinstance(other, Model) else Model(other)
        return verify(self.checkpoint, against.checkpoint, sample=sample, seed=seed).document()

    def explain(self, tensor: str, *, to: str = "neuron", block: tuple[int, int] | None = None, at: tuple[int, int] | None = None) -> dict[str, Any]:
        """One weight worked by hand from its bytes: see `weighbridge.explain/1`. `at` is the row and column of a weight whose block is worked."""
        from weighbridge.lessons.tensor import document

        return document(self.checkpoint, tensor, to=to, block=block, at=at)

    def compare(self, other: str | os.PathLike[str] | Model, ids: Sequence[Sequence[int]], *, tokens: int = 32, tolerance: float | None = None,
                numerics: tuple[str, str] = ("plain", "plain"), tp: int = 0) -> dict[str, Any]:
        """At which layer two runs over the same token ids part: see `weighbridge.compare/1`. `tokens` are decoded greedily after each of `ids`."""
        from weighbridge.engine.compare import EngineSide, compare
        from weighbridge.engine.engine import load as load_engine

        pair = (self, other if isinstance(other, Model) else Model(other))
        a, b = (EngineSide(load_engine(model.source, numerics=way, tp=tp), model.source, way) for model, way in zip(pair, numerics, strict=True))
        report = compare(a, b, ids, tokens=tokens, inventory=self.source.inventory, tolerance=tolerance)
        return {"schema": "weighbridge.compare/1", **report.document()}

    def trace(self, name: str, layout: str, **options: Any) -> dict[str, Any]:
        """The way of one tensor through the plan: see `weighbridge.trace/1`."""
        from weighbridge.convert.trace import trace

        return trace(self.plan(layout, **options), name)


def open(src: str | os.PathLike[str]) -> Model:  # noqa: A001 - `wb.open` is the name that users expect
    """Open a checkpoint: a folder, `org/name[@rev]`, `hf://…`, `https://…` or `s3://…`."""
    return Model(src)


def explain(what: str) -> dict[str, Any]:
    """A rule (`WB304`), a number format (`e4m3fn`), a scheme (`ct-int4`), a term, or `terms`, `formats`, `rules`, `skip-list`: see `weighbridge.explain/1`."""
    from weighbridge.lessons.pages import document

    return document(what)


def _settings(given: dict[str, Any]) -> Settings:
    from weighbridge.check.settings import Settings

    try:
        return Settings(**given)
    except TypeError as error:
        raise Usage(str(error).replace("Settings.__init__() got an", "an"), "settings") from error


def plan_for(checkpoint: Checkpoint, layout: str, **options: Any) -> Plan:
    """Bind a checkpoint and resolve `layout` against it. The destination keeps the source's block unless another is named; `block` may be "auto"."""
    from weighbridge.plan.resolve import resolve

    return resolve(checkpoint, layout, **options)


def to_torch(src: str | os.PathLike[str] | Model, layout: str = "neuron", **options: Any) -> TorchView:
    """What the runtime's `get_state_dict` would return, as a lazy mapping of torch tensors (needs torch)."""
    from weighbridge.torch_view import TorchView

    model = src if isinstance(src, Model) else Model(src)
    return TorchView(model.plan(layout, **options))


def load(src: str | os.PathLike[str] | Model, *, max_memory: int | None = None, numerics: str = "plain", layers: tuple[int, int] | None = None,
         tp: int = 0) -> Talker:
    """A model that runs on this CPU: `.generate(text)` gives pieces, `.logits(ids)` float32 [n, V], `.capture(ids)` activations by stage.

    `max_memory` is in bytes, for the whole process. `numerics` is plain or neuron. Needs `pip install 'weighbridge[run]'` for text.
    """
    from weighbridge.engine.engine import load as load_engine
    from weighbridge.engine.generate import Model as Talking

    model = src if isinstance(src, Model) else Model(src)
    with paused():
        return Talking(load_engine(model.source, max_memory=max_memory, numerics=numerics, layers=layers, tp=tp))


__all__ = ["Model", "explain", "load", "open", "plan_for", "to_torch"]

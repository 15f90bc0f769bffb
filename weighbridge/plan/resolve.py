"""From what a user asks to a plan: which of the options a layout takes, and what follows from the source where nothing is asked."""

from __future__ import annotations

from typing import Any

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.collector import paused
from weighbridge.errors import Usage
from weighbridge.layouts import NEURON
from weighbridge.layouts import layout as layout_of
from weighbridge.layouts.accepted import options_of, require_accepted
from weighbridge.layouts.blocks import automatic
from weighbridge.layouts.options import Options
from weighbridge.layouts.rows import ROWS
from weighbridge.layouts.source import Source
from weighbridge.plan.activations import FLAG, ActivationScales, load
from weighbridge.plan.bind import bind
from weighbridge.plan.plan import Plan, make_plan

AUTO = "auto"
Block = tuple[int, int] | str | None


def resolve(checkpoint: Checkpoint, layout: str, *, block: Block = None, tp: int = 0, shards: bool = False, stated: bool = False, **given: Any) -> Plan:
    """The plan to `layout`. `block` is (rows, columns) or `auto`: the destination's; the source's, too, where its configuration says none or a wrong one.

    Raises Usage for an option that the layout does not take, with the layouts that take it. `stated`: a plan file says the options, all of them.
    """
    if stated:
        usual = Options()
        given = {name: value for name, value in given.items() if not hasattr(usual, name) or value != getattr(usual, name)}
    with paused():
        source, needed = bound_with(checkpoint, block)
        own = None if (needed or stated) and "--block" not in options_of(layout) else block
        options, scales = settled(source, layout, block=own, tp=tp, shards=shards, **given)
        return make_plan(source, "neuron-shards" if shards else layout, options, scales)


def settled(source: Source, layout: str, *, block: Block = None, tp: int = 0, shards: bool = False, activation_scales: str | None = None,
            activations: str = "", **given: Any) -> tuple[Options, ActivationScales | None]:
    """Options of a layout, from those that were given, and the user's scales of activations. Raises Usage for one that it does not take.

    `activations` is the hash of the file that a plan file was made with.
    """
    layout_of(layout)
    if shards and layout != "neuron":
        raise Usage(f"--shards goes with --to neuron, not with {layout}", "--shards", "leave it out")
    require_accepted(layout, {**given, "block": block, "tp": tp, "activation_scales": activation_scales}, ("--tp",) if block == AUTO else ())
    chosen = automatic(source, tp)[0] if block == AUTO else block
    scales = load(activation_scales) if activation_scales else None
    if activations and (scales is None or scales.sha256 != activations):
        raise Usage("the plan was made with a file of scales of activations" + (", and this is another one" if scales else ""), FLAG, "give that file again")
    if scales:
        given["activations"] = scales.sha256
    return options_for(source, layout, chosen, tp=tp if layout in NEURON else 0, **given), scales


def bound_with(checkpoint: Checkpoint, block: Block) -> tuple[Source, bool]:
    """The source, and whether it could be read only with the user's block: what its configuration says goes first."""
    source = bind(checkpoint)
    if not isinstance(block, tuple):
        return source, False
    other = source.layout in NEURON and block != source.options.block
    needed = other or any(p.code in ("scale-shape", "no-block-size") for p in source.problems)
    return (bind(checkpoint, block), True) if needed else (source, False)


def options_for(source: Source, layout: str, block: Block = None, group: int = 0, **given: Any) -> Options:
    """Options with what follows from the source: its block and its group are kept where the layout takes them, else the layout's own hold."""
    known = options_of(layout)
    own = ROWS[layout].block if layout in ROWS and "--block" not in known else None
    group = group or (source.options.group if "--group" in known else 0)
    kept = source.kept
    if kept is not None and not source.coded:
        group = group or (kept.group if "--group" in known else 0)
        block = block or (kept.block if "--block" in known else None)
    try:
        return Options(block=block or own or source.options.block, group=group, **given)
    except TypeError as error:
        raise Usage(str(error).replace("Options.__init__() got an", "an"), "options") from error


__all__ = ["AUTO", "bound_with", "options_for", "resolve", "settled"]

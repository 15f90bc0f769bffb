"""`weighbridge trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from weighbridge.cli import common


def trace(
    src: str,
    name: str,
    *,
    to: common.To = "neuron",
    attention: Literal["published", "row", "bf16", "exact"] | None = None,
    scale_rule: Literal["halve", "legacy-448-240", "reciprocal"] | None = None,
    block: str | None = None,
    shards: Annotated[bool, Parameter(negative=())] = False,
    tp: int = 0,
    moe_tp: int = 0,
    moe_ep: int = 0,
    allow: list[str] | None = None,
    format: Literal["text", "json", "markdown"] = "text",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Which way does this one tensor go, and what happens to its bytes and its scale at each step?

    Parameters
    ----------
    src
        Folder of the source.
    name
        A tensor or module of the source or of the destination, with or without `model.` and suffix.
    to
        Layout of the destination.
    attention
        neuron: form of q/k/v/o, as in convert.
    scale_rule
        neuron: how codes get below 240, as in convert.
    block
        Block of the scales as rows,columns, where the config does not say.
    shards
        neuron: trace into the per-rank files.
    tp
        Tensor parallel degree.
    moe_tp
        Ways in which an expert's width is cut.
    moe_ep
        Ways in which the experts are dealt out.
    allow
        Go on in spite of a finding, as in convert.
    format
        text, json or markdown.
    output
        Write the report to this file.
    """
    from weighbridge.api import Model, plan_for
    from weighbridge.convert.trace import trace as run
    from weighbridge.report import sink
    from weighbridge.report.trace import text as trace_text

    given = common.options(attention=attention, scale_rule=scale_rule, tp=tp, moe_tp=moe_tp, moe_ep=moe_ep, shards=shards,
                           allow=common.allowed(allow), block=common.block_or_auto(block))
    plan = plan_for(Model(src).checkpoint, to, **given)
    plan.refuse()
    document = {"schema": "weighbridge.trace/1", **run(plan, name)}
    sink.emit(document, trace_text.trace_text, lambda d: trace_text.trace_text(d, markdown=True), format, output)
    return 0

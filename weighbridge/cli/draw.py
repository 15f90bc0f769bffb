"""`weighbridge draw`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from weighbridge.cli import common
from weighbridge.errors import Usage

if TYPE_CHECKING:
    from weighbridge.plan.plan import Plan


def draw(
    src: str,
    /,
    *,
    runtime: str | None = None,
    tp: int = 0,
    ep: int = 0,
    enable_expert_parallel: Annotated[bool, "flag"] = False,
    moe_tp: int = 0,
    moe_ep: int = 0,
    to: common.To | None = None,
    attention: Literal["published", "row", "bf16", "exact"] | None = None,
    scale_rule: Literal["halve", "legacy-448-240", "reciprocal"] | None = None,
    scale_dtype: common.ScaleDtype | None = None,
    block: str | None = None,
    shards: Annotated[bool, "flag"] = False,
    allow: str | None = None,
    format: Literal["text", "json", "markdown", "svg", "html"] | None = None,
    output: Path | None = None,
) -> int:
    """The architecture, with what is quantized in it: as a tree, of one rank, or the whole conversion in one picture.

    Only headers are read.

    Parameters
    ----------
    src
        A folder, org/name[@rev], hf://, https:// or s3://.
    runtime
        Show what one rank of this reader holds: transformers, vllm, sglang, neuron, tensorrt-llm.
    tp
        Tensor parallel degree.
    ep
        Expert parallel degree.
    enable_expert_parallel
        vLLM's flag: experts are dealt out to all ranks.
    moe_tp
        Ways in which an expert's width is cut (neuron, tensorrt-llm).
    moe_ep
        Ways in which the experts are dealt out (neuron, tensorrt-llm).
    to
        Show the way to this layout: source, steps, destination.
    attention
        --to neuron: form of q/k/v/o, as in convert.
    scale_rule
        --to neuron: how codes get below 240, as in convert.
    scale_dtype
        --to hf-fp8: dtype of the scales, as in convert.
    block
        Block of the scales as rows,columns, where the config does not say.
    shards
        --to neuron: the per-rank files.
    allow
        --to: go on in spite of these findings (codes, with commas), as in convert.
    format
        text, json (schema weighbridge.draw/1), markdown (with a Mermaid flowchart), svg or html. Without it the ending of --output chooses.
    output
        Write into this file instead of stdout: .txt, .md, .json, .svg, .html.
    """
    from weighbridge.check.case import Case
    from weighbridge.check.run import one_target
    from weighbridge.check.settings import Settings
    from weighbridge.checkpoint.source import open_checkpoint
    from weighbridge.collector import paused
    from weighbridge.drawing.document import document

    degrees = {"tp": tp, "ep": ep, "moe_tp": moe_tp, "moe_ep": moe_ep, "expert_parallel": enable_expert_parallel}
    layout = {"attention": attention, "scale_rule": scale_rule, "scale_dtype": scale_dtype, "block": block, "shards": shards, "allow": allow}
    _agree(runtime, to, degrees, layout)
    with paused():
        checkpoint = open_checkpoint(src)
        target = one_target(runtime) if runtime else None
        plan = _plan(checkpoint, to, {**layout, "tp": tp, "moe_tp": moe_tp, "moe_ep": moe_ep}) if to else None
        made = document(Case(checkpoint, (target,) if target else (), Settings(**degrees) if target else None), target, plan)
    _emit(made, format, output)
    return 0


def _agree(runtime: str | None, to: str | None, degrees: dict[str, Any], layout: dict[str, Any]) -> None:
    """Each flag belongs to the tree of one rank or to a conversion."""
    if runtime and to:
        raise Usage("--runtime shows a rank, --to a conversion", "--runtime, --to", "give one of them")
    given = [f"--{name.replace('_', '-')}" for name, value in layout.items() if value and not to]
    if given:
        raise Usage("goes with --to LAYOUT", ", ".join(given), "weighbridge draw SRC --to neuron")
    lone = [name for name, value in degrees.items() if value and not runtime and (not to or name in ("ep", "expert_parallel"))]
    if lone:
        words = ", ".join("--enable-expert-parallel" if name == "expert_parallel" else f"--{name.replace('_', '-')}" for name in lone)
        raise Usage("goes with --runtime" + ("" if to else " or --to"), words, "weighbridge draw SRC --runtime vllm --tp 8")


def _plan(checkpoint: Any, to: str, given: dict[str, Any]) -> Plan:
    from weighbridge.api import plan_for

    given = {**given, "block": common.block_or_auto(given["block"]), "allow": common.allowed([given["allow"]] if given["allow"] else None)}
    plan = plan_for(checkpoint, to, **common.options(**given))
    plan.refuse()
    return plan


def _emit(document: dict[str, Any], format: str | None, output: Path | None) -> None:
    import sys

    from weighbridge.report import sink
    from weighbridge.report.draw import text as draw_text

    form = sink.form(format, output)
    if form == "svg":
        sink.save_or_put(_svg(document), output)
    elif form == "html":
        from weighbridge.report.draw.html import html

        sink.save_or_put(html(document), output)
    else:
        colour = output is None and sink.colour(sys.stdout)
        sink.emit(document, lambda d: draw_text.text(d, colour), _markdown, form, output, colour=colour)


def _svg(document: dict[str, Any]) -> str:
    if document["flow"] is not None:
        from weighbridge.report.draw.flow_svg import svg as flow

        return flow(document)
    from weighbridge.report.draw.svg import svg

    return svg(document)


def _markdown(document: dict[str, Any]) -> str:
    from weighbridge.report.draw.markdown import markdown

    return markdown(document)

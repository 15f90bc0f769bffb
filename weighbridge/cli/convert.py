"""`weighbridge convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from weighbridge.cli import common
from weighbridge.errors import Usage


def convert(
    src: str | None = None,
    dst: Path | None = None,
    *,
    to: common.To | None = None,
    for_: Annotated[common.Reader | None, Parameter(name="--for")] = None,
    device: common.Device | None = None,
    attention: Literal["published", "row", "bf16", "exact"] | None = None,
    scale_rule: Literal["halve", "legacy-448-240", "reciprocal"] | None = None,
    scale_dtype: common.ScaleDtype | None = None,
    block: str | None = None,
    group: int = 0,
    zero_points: Annotated[bool, Parameter(negative=())] = False,
    keep_scales: Annotated[bool, Parameter(negative=())] = False,
    inexact: Annotated[bool, Parameter(negative=())] = False,
    activation_scales: Path | None = None,
    shards: Annotated[bool, Parameter(negative=())] = False,
    tp: int = 0,
    moe_tp: int = 0,
    moe_ep: int = 0,
    batch: int = 0,
    context: int = 0,
    allow: list[str] | None = None,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    plan: Path | None = None,
    apply: Path | None = None,
    fsync: Annotated[bool, Parameter(negative=())] = False,
    format: Literal["text", "json", "markdown"] = "text",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Write the checkpoint that a runtime wants, in bounded memory, at the speed of the disk.

    Without --to and --for it prints where these weights can go: each layout, who reads it, its bytes, and what it loses.
    Refuses with all findings before the first write. Killed at any moment, the same command goes on.
    An option that a layout does not take is refused, with the layouts that take it.

    Parameters
    ----------
    src
        Folder of the source, or org/name, hf://, https://.
    dst
        Folder that is made. Not needed with --dry-run.
    to
        Layout of the destination.
    for_
        In the place of --to: the layout that loses least among those that this reader loads.
    device
        With --for: the device on which the reader runs.
    attention
        neuron: form of q/k/v/o. published: q/k/v one scale per row, o_proj BF16. row: o_proj too. bf16: all four. exact: block scales kept.
    scale_rule
        neuron: how codes get below 240. halve is exact but for 16 codes; legacy-448-240 matches the published scripts.
    scale_dtype
        Dtype of the scales, where the layout has a choice. Default: as in the source. E8M0 holds powers of two alone.
    block
        hf-fp8, ct-fp8-block: block of the scales as rows,columns; auto: the largest that divides all matrices, and with --tp a rank's parts of them.
        Of any layout: the source's block, where its config says none or a wrong one.
    group
        ct-int4, gptq-int4, awq-int4: input channels that share one scale. Default: as in the source, else 128.
    zero_points
        ct-int4: with zero points (asymmetric).
    keep_scales
        hf-bf16, hf-f16: write the scales into weighbridge-scales.kept, with which the way back is byte for byte. A weight that was changed
        meanwhile gets new scales.
    inexact
        Allow a way that the source's scales show to be not exact; bounded and recorded.
    activation_scales
        Static scales of activations: a safetensors file with MODULE.input_scale, F32, one value each, by the source's module names. It multiplies the
        codes of an FP8 activation: the largest magnitude over 448. INT8 and NVFP4 get their own scale of the same magnitude.
    shards
        neuron: write the per-rank files instead of the files that the loader cuts.
    tp
        Tensor parallel degree: ranks in all. 0 chooses.
    moe_tp
        Ways in which an expert's width is cut. 0 chooses.
    moe_ep
        Ways in which the experts are dealt out. 0 chooses.
    batch
        Batch size that neuron_config.json says. 0 chooses the smallest that the reader's rules allow.
    context
        Sequence length that neuron_config.json says. 0 chooses.
    allow
        Name a finding (its code) to go on in spite of it; recorded in the output.
    dry_run
        Print cost and findings, write nothing. Exit 1 when something would stop it.
    plan
        Write the plan to this file, and do nothing else.
    apply
        Carry out a plan file that --plan wrote.
    fsync
        Wait for the disk: exit 0 means that all of it is there, and a power cut on the way loses at most the file in work.
    format
        text, json or markdown.
    output
        Write the report to this file.
    """
    from weighbridge.api import Model, plan_for
    from weighbridge.convert import planfile

    stated = planfile.load(apply) if apply else None
    if stated:
        src, dst, to, given = _stated(stated, src, dst)
        given |= {"stated": True, "activation_scales": str(activation_scales) if activation_scales else None}
    else:
        given = common.options(attention=attention, scale_rule=scale_rule, scale_dtype=scale_dtype, tp=tp, moe_tp=moe_tp, moe_ep=moe_ep,
                               batch=batch, context=context, allow=common.allowed(allow), block=common.block_or_auto(block), shards=shards, group=group,
                               zero_points=zero_points, inexact=inexact, keep_scales=keep_scales, activation_scales=str(activation_scales) if activation_scales else None)
    if src is None:
        raise Usage("a source is needed", "convert", "weighbridge convert SRC shows where its weights can go")
    model = Model(src)
    choice = None
    if to is None:
        if for_ is None and dst is None and not (plan or dry_run):
            require_nothing(given)
            return _menu(model, format, output)
        if for_ is None:
            raise Usage("the layout is missing", "--to", f"weighbridge convert {src} shows where its weights can go")
        choice = _pick(model, for_, device, given)
        to = choice.way.to
    elif for_ is not None:
        raise Usage("--for chooses a layout, --to names one", "--for, --to", "give one of them")
    if device is not None and for_ is None:
        raise Usage("--device goes with --for", "--device", "weighbridge convert SRC DST --for vllm --device h100")
    made = plan_for(model.checkpoint, to, **given)
    if stated:
        assert apply
        planfile.require_same(made, stated, apply)
    if plan:
        made.refuse()
        planfile.save(made, dst, plan)
        return 0
    if dry_run:
        return _dry(made, choice, format, output)
    if dst is None:
        raise Usage("the folder to write is missing", "DST", "weighbridge convert SRC DST --to neuron; or --dry-run")
    return _run(made, dst, fsync, choice, format, output)


def require_nothing(given: dict) -> None:
    """Options belong to a layout: the menu has none."""
    if given:
        raise Usage("goes with --to LAYOUT or --for READER", ", ".join(f"--{name.replace('_', '-')}" for name in given), "weighbridge convert SRC DST --to ct-fp8-block")


def _menu(model, format: str, output: Path | None) -> int:
    from weighbridge.report import sink
    from weighbridge.report.convert import menu

    document = {"schema": "weighbridge.convert/1", **model.ways()}
    sink.emit(document, menu.text, lambda d: menu.text(d, markdown=True), format, output)
    return 0


def _pick(model, reader: str, device: str | None, given: dict):
    from weighbridge.convert.menu import pick

    return pick(model.source, reader, device or "", given)


def _chosen(choice) -> dict:
    return {"choice": choice.document()} if choice else {}


def _stated(stated: dict, src: str | None, dst: Path | None) -> tuple[str, Path | None, str, dict]:
    """Source, destination, layout and options of a plan file; what the command line names goes first."""
    from weighbridge.convert import planfile

    given = planfile.options(stated)
    to = str(stated.get("to"))
    if to == "neuron-shards":
        to, given = "neuron", given | {"shards": True}
    where = stated.get("destination")
    return src or str(stated.get("source")), dst or (Path(where) if isinstance(where, str) else None), to, given


def _dry(made, choice, format: str, output: Path | None) -> int:
    from weighbridge.convert.cost import dry_run
    from weighbridge.report import sink
    from weighbridge.report.convert import text as convert_text

    document = {"schema": "weighbridge.convert/1", **_chosen(choice), **dry_run(made)}
    sink.emit(document, convert_text.plan_text, lambda d: convert_text.plan_text(d, markdown=True), format, output)
    return 1 if document["findings"] else 0


def _run(made, dst: Path, fsync: bool, choice, format: str, output: Path | None) -> int:
    from weighbridge.convert.run import convert as run
    from weighbridge.report import sink
    from weighbridge.report.convert import text as convert_text
    from weighbridge.report.progress import Progress

    progress = Progress("convert")
    try:
        result = run(made, dst, progress, sync=fsync)
    except KeyboardInterrupt as error:
        error.add_note(common.progress_of(dst, made.files))
        raise
    finally:
        progress.close()
    document = {"schema": "weighbridge.convert/1", **_chosen(choice), **result.document()}
    sink.emit(document, convert_text.result_text, lambda d: convert_text.result_text(d, markdown=True), format, output)
    return 0

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
    to: Literal["hf-fp8", "hf-bf16", "neuron"] | None = None,
    attention: Literal["published", "row", "bf16", "exact"] | None = None,
    scale_rule: Literal["halve", "legacy-448-240", "reciprocal"] | None = None,
    scale_dtype: Literal["F32", "BF16"] | None = None,
    block: str | None = None,
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

    Refuses with all findings before the first write. Killed at any moment, the same command goes on.

    Parameters
    ----------
    src
        Folder of the source, or org/name, hf://, https://.
    dst
        Folder that is made. Not needed with --dry-run.
    to
        Layout of the destination.
    attention
        neuron: form of q/k/v/o. published: q/k/v one scale per row, o_proj BF16. row: o_proj too. bf16: all four. exact: block scales kept.
    scale_rule
        neuron: how codes get below 240. halve is exact but for 16 codes; legacy-448-240 matches the published scripts.
    scale_dtype
        hf-fp8: dtype of the scales. Default: as in the source.
    block
        Block of the scales as rows,columns, where the config does not say.
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
    else:
        given = common.options(attention=attention, scale_rule=scale_rule, scale_dtype=scale_dtype, tp=tp, moe_tp=moe_tp, moe_ep=moe_ep,
                               batch=batch, context=context, allow=common.allowed(allow), block=common.block(block), shards=shards)
    if src is None or to is None:
        raise Usage("a source and --to LAYOUT are needed", "convert", "weighbridge convert SRC DST --to neuron")
    made = plan_for(Model(src).checkpoint, to, **given)
    if stated:
        assert apply
        planfile.require_same(made, stated, apply)
    if plan:
        made.refuse()
        planfile.save(made, dst, plan)
        return 0
    if dry_run:
        return _dry(made, format, output)
    if dst is None:
        raise Usage("the folder to write is missing", "DST", "weighbridge convert SRC DST --to neuron; or --dry-run")
    return _run(made, dst, fsync, format, output)


def _stated(stated: dict, src: str | None, dst: Path | None) -> tuple[str, Path | None, str, dict]:
    """Source, destination, layout and options of a plan file; what the command line names goes first."""
    from weighbridge.convert import planfile

    given = planfile.options(stated)
    to = str(stated.get("to"))
    if to == "neuron-shards":
        to, given = "neuron", given | {"shards": True}
    where = stated.get("destination")
    return src or str(stated.get("source")), dst or (Path(where) if isinstance(where, str) else None), to, given


def _dry(made, format: str, output: Path | None) -> int:
    from weighbridge.convert.cost import dry_run
    from weighbridge.report import sink
    from weighbridge.report.convert import text as convert_text

    document = {"schema": "weighbridge.convert/1", **dry_run(made)}
    sink.emit(document, convert_text.plan_text, lambda d: convert_text.plan_text(d, markdown=True), format, output)
    return 1 if document["findings"] else 0


def _run(made, dst: Path, fsync: bool, format: str, output: Path | None) -> int:
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
    document = {"schema": "weighbridge.convert/1", **result.document()}
    sink.emit(document, convert_text.result_text, lambda d: convert_text.result_text(d, markdown=True), format, output)
    return 0

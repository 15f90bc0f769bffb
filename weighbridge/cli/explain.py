"""`weighbridge explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from weighbridge.errors import Usage


def explain(
    what: str,
    tensor: str | None = None,
    /,
    *,
    format: Literal["text", "json", "markdown", "svg", "html"] | None = None,
    html: bool = False,
    output: Path | None = None,
    to: Literal["neuron", "hf-bf16", "hf-fp8"] = "neuron",
    at: str | None = None,
    block: str | None = None,
) -> int:
    """A rule, a number format, a scheme, a term, or the numbers of one real tensor, worked by hand.

    Parameters
    ----------
    what
        A rule (WB101 or its name), a number format (e4m3fn, nf4), a scheme (ct-int4, awq-int4), a term (weight_scale_inv, 240-vs-448), or a
        list: terms, formats, rules, skip-list; before TENSOR, a checkpoint.
    tensor
        A tensor of the checkpoint WHAT: one of its blocks is worked by hand.
    format
        text, json (schema weighbridge.explain/1), markdown, svg (the picture) or html. Without it the ending of the output file decides.
    html
        The same as --format html; a file may follow.
    output
        Write into this file instead of stdout.
    to
        With TENSOR: the layout beside which it is set.
    at
        With TENSOR: the weight whose block is worked, as row,column (rows count through all matrices of a stack). Without it, the block that
        shows most: the largest scale if it stands apart, else the one where halving rounds most codes.
    block
        With TENSOR: block of the scales as rows,columns, where the config does not say; 1,128 is a group of 128.
    """
    from weighbridge.report import sink

    if html and format not in (None, "html"):
        raise Usage(f"--html and --format {format} ask for two forms", "--html", "give one of them")
    form = "html" if html else sink.form(format, output)
    if tensor is not None:
        _tensor(what, tensor, form, output, to, at, block)
    elif at is not None or block is not None:
        raise Usage("--at and --block need a tensor", "explain", "weighbridge explain SRC TENSOR --at ROW,COLUMN")
    else:
        _word(what, form, output)
    return 0


def _word(what: str, form: str, output: Path | None) -> None:
    """One word: its page in the wanted form."""
    from weighbridge.lessons import pages
    from weighbridge.report.explain import html as explain_html
    from weighbridge.report.explain import svg as explain_svg
    from weighbridge.report.explain import text as explain_text
    from weighbridge.report.sink import emit, save_or_put

    pages.refuse_checkpoint(what)
    document = pages.document(what)
    if form in ("svg", "html"):
        save_or_put(explain_svg.picture(document) if form == "svg" else explain_html.page(document), output)
    else:
        # The page is ours, with lines and marks of its own: nothing in it is from outside.
        emit(document, lambda _: explain_text.text(document), lambda _: explain_text.markdown(document), form, output)


def _tensor(src: str, name: str, form: str, output: Path | None, to: str, at: str | None, block: str | None) -> None:
    """One tensor of a checkpoint."""
    from weighbridge.checkpoint.source import open_checkpoint
    from weighbridge.cli import common
    from weighbridge.lessons import tensor
    from weighbridge.report.explain import tensor_text as explain_tensor
    from weighbridge.report.sink import emit, save_or_put

    document: dict[str, Any] = tensor.document(open_checkpoint(src), name, to=to, block=common.block(block), at=position(at))
    if form in ("svg", "html"):
        save_or_put(explain_tensor.svg(document) if form == "svg" else explain_tensor.html(document), output)
    else:
        emit(document, explain_tensor.text, explain_tensor.markdown, form, output)


def position(text: str | None) -> tuple[int, int] | None:
    """`--at 5,700` as (5, 700): a row and a column, counted from zero."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        raise Usage(f"{text[:40]!r} is no row,column", "--at", "write --at 0,128: both are counted from zero")
    return int(parts[0]), int(parts[1])

"""`weighbridge inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def inspect(
    src: str,
    /,
    *,
    format: Literal["text", "json", "markdown"] = "text",
    output: Path | None = None,
    tensors: str | None = None,
) -> int:
    """What is in this checkpoint, really? Per role: encoding, block, counts, parameters, bytes; and what the config claims.

    Only headers are read.

    Parameters
    ----------
    src
        A folder, org/name[@rev], hf://, https:// or s3://.
    format
        text, json (schema weighbridge.inspect/1) or markdown.
    output
        Write into this file instead of stdout.
    tensors
        List single tensors whose names match this shell pattern; all of them where no pattern follows.
    """
    from weighbridge.checkpoint.source import open_checkpoint
    from weighbridge.collector import paused
    from weighbridge.inspection import inspect as weigh
    from weighbridge.inspection import tensor_list
    from weighbridge.report.inspect import text as inspect_text
    from weighbridge.report.sink import emit

    with paused():
        checkpoint = open_checkpoint(src)
        document = weigh(checkpoint) if tensors is None else tensor_list(checkpoint, tensors)
    if tensors is None:
        emit(document, inspect_text.text, inspect_text.markdown, format, output)
    else:
        emit(document, inspect_text.list_text, inspect_text.list_markdown, format, output)
    return 0

"""`weighbridge inspect`."""

from __future__ import annotations

import gc
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
    # A report lives shorter than one pass of the collector over its 96,103 tensors.
    gc.disable()
    from weighbridge.checkpoint.source import open_checkpoint
    from weighbridge.inspection import inspect as weigh
    from weighbridge.inspection import tensor_list
    from weighbridge.report import inspect_text
    from weighbridge.report.sink import emit

    checkpoint = open_checkpoint(src)
    if tensors is not None:
        listed = tensor_list(checkpoint, tensors)
        emit(listed, lambda: inspect_text.list_text(listed), lambda: inspect_text.list_markdown(listed), format, output)
    else:
        weighed = weigh(checkpoint)
        emit(weighed, lambda: inspect_text.text(weighed), lambda: inspect_text.markdown(weighed), format, output)
    return 0

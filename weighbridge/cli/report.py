"""`weighbridge report`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from weighbridge.cli import common

if TYPE_CHECKING:
    from weighbridge.check.case import Case
    from weighbridge.checkpoint.checkpoint import Checkpoint

OUT_OF_BOUND = 3
STDOUT = Path("-")


def report(
    src: str,
    /,
    *,
    output: Path | None = None,
    runtime: str | None = None,
    against: str | None = None,
    to: Literal["neuron", "hf-fp8", "hf-bf16"] | None = None,
    command: str | None = None,
    config: str | None = None,
    tp: int = 0,
    ep: int = 0,
    enable_expert_parallel: Annotated[bool, "flag"] = False,
    moe_tp: int = 0,
    moe_ep: int = 0,
    batch: int = 0,
    context: int = 0,
    device_memory: str | None = None,
    device: str | None = None,
    kv_cache_dtype: str | None = None,
    scales: Literal["all", "sample", "none"] = "all",
    format: Literal["html", "json"] | None = None,
) -> int:
    """Everything that is known of a checkpoint in one page that opens by a double click.

    What inspect, check, draw and verify say, the scales of every layer, the memory of a rank at each TP and EP, and each tensor's way through
    a conversion. The page is one file: it loads nothing. A command line may follow after --, as for check. Exit 3 when --against is out of its bound.

    Parameters
    ----------
    src
        A folder, org/name[@rev], hf://, https:// or s3://.
    output
        The page, report.html in the current folder if not said; - is stdout.
    runtime
        transformers, vllm, sglang, neuron, tensorrt-llm, llama.cpp; several with commas; a version as vllm@0.11. Findings are of these; memory is
        shown for these, or for all where none is named.
    against
        Another checkpoint of the same model: verify how far it holds the same weights.
    to
        The layout to which the ways of tensors are shown: neuron where the family has it, else hf-bf16.
    command
        The reader's command line as one text; the same as the words after --.
    config
        Files that replace or add to the configuration, with commas: neuron_config.json, a vLLM YAML file, hf_quant_config.json, config.json, or a folder of them.
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
    batch
        Sequences at once.
    context
        Longest sequence in tokens.
    device_memory
        Memory of one rank: 24GB, 80GiB.
    device
        The accelerator: trn2, h100, b200, mi300x, …
    kv_cache_dtype
        Dtype of the KV cache: auto, fp8, …
    scales
        Which scale bytes are read: all, a stated sample (always so over a network), or none.
    format
        html, or json (schema weighbridge.report/1), which goes to stdout if no file is named.
    """
    from weighbridge.collector import paused
    from weighbridge.overview.document import document as gather

    flags: dict[str, Any] = {
        "tp": tp, "ep": ep, "moe_tp": moe_tp, "moe_ep": moe_ep, "batch": batch, "context": context, "device": device or "",
        "kv_cache_dtype": kv_cache_dtype or "", "expert_parallel": enable_expert_parallel,
    }
    texts = {"runtime": runtime, "command": command, "config": config, "device-memory": device_memory}
    with paused():
        case, other = common.case(src, runtime, command, config, device_memory, flags, scales), _other(against)
    document = _gathered(gather, case, to or "", other, _words(texts, flags, scales))
    form = format or ("json" if output is not None and output.suffix.lower() == ".json" else "html")
    _write(document, form, output)
    verified = document["verify"]
    return OUT_OF_BOUND if against is not None and not (verified and verified["ok"]) else 0


def _other(against: str | None) -> Checkpoint | None:
    from weighbridge.checkpoint.source import open_checkpoint

    return open_checkpoint(against, lenient=True) if against is not None else None


def _words(texts: dict[str, str | None], flags: dict[str, Any], scales: str) -> list[str]:
    """The flags of `check` that say the same."""
    words = [word for name, text in texts.items() if text for word in (f"--{name}", text)]
    words += [word for name, value in flags.items() if value and value is not True for word in (f"--{name.replace('_', '-')}", str(value))]
    words += ["--enable-expert-parallel"] if flags["expert_parallel"] else []
    return words + (["--scales", scales] if scales != "all" else [])


def _gathered(gather: Any, case: Case, to: str, other: Checkpoint | None, words: list[str]) -> dict[str, Any]:
    if other is None:
        return gather(case, to=to, words=words)
    from weighbridge.report.progress import Progress

    progress = Progress("verify")
    try:
        return gather(case, to=to, against=other, words=words, progress=progress)
    finally:
        progress.close()


def _write(document: dict[str, Any], form: str, output: Path | None) -> None:
    from weighbridge.report import sink
    from weighbridge.report.visible import visible

    if form == "json":
        body = sink.to_json(document)
        output = None if output == STDOUT else output
    else:
        from weighbridge.report.page.html import html

        body = html(document)
        output = None if output == STDOUT else output or Path("report.html")
    sink.save_or_put(body, output)
    if output is not None:
        sink.talk(f"wrote {visible(str(output))}, {-(-os.path.getsize(output) // 1000):,} kB")

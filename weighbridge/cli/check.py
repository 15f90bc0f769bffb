"""`weighbridge check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from weighbridge.cli import common

if TYPE_CHECKING:
    from weighbridge.check.case import Case
    from weighbridge.check.finding import Finding


def check(
    src: str,
    /,
    *,
    runtime: str | None = None,
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
    select: str | None = None,
    ignore: str | None = None,
    scales: Literal["all", "sample", "none"] = "all",
    fail_on: Literal["error", "warning", "note"] = "error",
    try_: str | None = None,
    fix: Path | None = None,
    format: Literal["text", "json", "markdown", "sarif", "github"] = "text",
    output: Path | None = None,
) -> int:
    """Will a runtime load this checkpoint, with this configuration and parallelism, and compute the right thing?

    Reads headers, configuration and scale bytes. Without --runtime: the checkpoint against itself. A command line may follow after --:
    weighbridge check SRC -- vllm serve X -tp 8 --enable-expert-parallel

    Parameters
    ----------
    src
        A folder, org/name[@rev], hf://, https:// or s3://.
    runtime
        transformers, vllm, sglang, neuron, tensorrt-llm, llama.cpp; several with commas; a version as vllm@0.11.
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
    select
        Only rules whose code begins so, with commas: WB3,WB401.
    ignore
        Not the rules whose code begins so.
    scales
        Which scale bytes are read: all, a stated sample (always so over a network), or none.
    fail_on
        The level at which the exit code is 1.
    try_
        Ask a reader itself that is installed in some Python: transformers, vllm, sglang, llama.cpp, mlx; vllm@/path/to/python; several with commas.
    fix
        Write the corrected configuration files into this new folder.
    format
        text, json (schema weighbridge.check/1), markdown, sarif (2.1.0) or github (workflow commands).
    output
        Write into this file instead of stdout.
    """
    from weighbridge.check import run
    from weighbridge.collector import paused

    given: dict[str, Any] = {
        "tp": tp, "ep": ep, "moe_tp": moe_tp, "moe_ep": moe_ep, "batch": batch, "context": context, "device": device or "",
        "kv_cache_dtype": kv_cache_dtype or "", "expert_parallel": enable_expert_parallel,
    }
    with paused():
        case = common.case(src, runtime, command, config, device_memory, given, scales)
        found = run.findings(case, common.words(select), common.words(ignore))
        document = run.document(case, found)
    stops = _tried(case, common.words(try_), document) if try_ else False
    _emit(document, format, output)
    if not case.targets and any(given.values()):
        from weighbridge.report.sink import talk

        talk("no --runtime was named, so sizes and devices were not looked at")
    if fix is not None:
        _mend(case, found, fix)
    levels = ("error", "warning", "note")
    return int(stops or any(document["summary"][level] for level in levels[: levels.index(fail_on) + 1]))


def _tried(case: Case, readers: list[str], document: dict[str, Any]) -> bool:
    """Put `tried` into the document: what the readers themselves say. Returns whether one of them refused, or left a parameter unfilled."""
    from weighbridge.readers.trial.answer import REFUSED, UNFILLED
    from weighbridge.readers.trial.trial import tried
    from weighbridge.report.sink import talk

    said = case.settings
    # vLLM deals experts out to all ranks by a flag; --ep says the same for it.
    asked = {"tp": said.tp, "ep": said.ep, "expert_parallel": said.expert_parallel or said.ep > 1, "kv_cache_dtype": said.kv_cache_dtype, "dtype": said.dtype,
             "quantization": said.quantization, "context": said.context, "device": said.device}
    answers = tried(case.checkpoint, readers, asked, say=talk)
    document["tried"] = [answer.document() for answer in answers]
    return any(answer.outcome in (REFUSED, UNFILLED) for answer in answers)


def _emit(document: dict[str, Any], format: str, output: Path | None) -> None:
    from weighbridge.check.rule import rules
    from weighbridge.report import jsontext, sink
    from weighbridge.report.check import machine as check_machine
    from weighbridge.report.check import text as check_text

    if format == "sarif":
        pages = {code: (loaded.rule.name, loaded.page) for code, loaded in rules().items()}
        sink.save_or_put(jsontext.pretty(check_machine.sarif(document, pages)), output)
    elif format == "github":
        sink.save_or_put(check_machine.github(document), output)
    else:
        import sys

        colour = output is None and sink.colour(sys.stdout)
        sink.emit(document, lambda d: check_text.text(d, colour), check_text.markdown, format, output, colour=colour)


def _mend(case: Case, found: list[Finding], folder: Path) -> None:
    from weighbridge.check import mend
    from weighbridge.report.sink import talk

    files = mend.mended(case.checkpoint, found, case.settings.neuron)
    if not files:
        talk("nothing to write: no finding is mended by a change of the configuration")
        return
    written = mend.write(files, folder, case.checkpoint.store.path(""))
    talk(f"wrote {', '.join(written)} into {folder}; check them with --config {folder}")

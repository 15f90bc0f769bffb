"""`weighbridge compare`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from weighbridge.cli import common
from weighbridge.errors import Refused, Usage, WeighbridgeError

if TYPE_CHECKING:
    from weighbridge.checkpoint.checkpoint import Checkpoint
    from weighbridge.engine.compare import Side

OUT_OF_TOLERANCE = 3
TEXT = "heldout.txt"  # a text that a checkpoint brings along, as the one in this package does
TEXT_LIMIT, WINDOW, WINDOWS = 1 << 20, 512, 4  # bytes of it; tokens of a window; windows
PROMPTS = (
    "The capital of France is",
    "Water freezes at a temperature of",
    "In the beginning",
    "The opposite of cold is",
    "def fibonacci(n):\n    ",
)
Numerics = Literal["plain", "neuron"]


def compare(
    a: str,
    b: str,
    *,
    prompt: list[str] | None = None,
    prompts: Path | None = None,
    ids: list[str] | None = None,
    a_numerics: Numerics = "plain",
    b_numerics: Numerics = "plain",
    names: Path | None = None,
    max_tokens: int = 32,
    layers: str | None = None,
    tp: int = 0,
    max_memory: str | None = None,
    tolerance: float | None = None,
    format: Literal["text", "json", "markdown"] = "text",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """At which layer do two runs part? Exit 3 when a stage or the output is out of tolerance.

    A and B are two checkpoints of one model in any layout, or folders of recorded activations.

    Parameters
    ----------
    a
        The reference: a checkpoint, or a capture.
    b
        What is judged: a checkpoint, or a capture.
    prompt
        A text to run; may be given several times. Default: the text that the checkpoint brings along, else five short ones.
    prompts
        A file with one text on each line.
    ids
        A prompt as token ids, comma-separated; may be given several times. Needs no tokenizer.
    a_numerics
        plain: float32 from the stored values. neuron: as an AWS Neuron device reads codes and casts.
    b_numerics
        The same for B.
    names
        What the tensors of a recorded folder are, where it has no capture.json: see docs/bring-up.md.
    max_tokens
        Greedy steps after each prompt, to find the first token that differs.
    layers
        Run only layers A to B - 1, as A:B; or only the first N, as N. Default: all.
    tp
        Tensor parallel degree that neuron numerics imitate. 0 takes the one of neuron_config.json.
    max_memory
        Most memory of the process, as 16GB or 512MB; two checkpoints share it. Experts that do not fit are read when they are needed.
    tolerance
        Largest relative error of a stage. Default: 0.001 where both sides must hold equal values, else 0.25.
    format
        text, json or markdown.
    output
        Write the report to this file; a name that ends in .svg takes the picture, and the report goes to stdout.
    """
    from weighbridge.engine import compare as engine
    from weighbridge.report import sink
    from weighbridge.report.compare import svg as compare_svg
    from weighbridge.report.compare import text as compare_text
    from weighbridge.report.progress import Progress

    _require(max_tokens, tolerance)
    settings = {"tp": tp, "layers": common.layers(layers)}
    shares = _shares(common.memory_limit(max_memory))
    sides: list[Side] = []
    checkpoints: list[Checkpoint | None] = []
    for path, numerics in ((a, a_numerics), (b, b_numerics)):
        side, checkpoint = _side(path, names, numerics, settings, shares)
        sides.append(side)
        checkpoints.append(checkpoint)
    sequences, tokenizer = _sequences(sides, checkpoints, prompt, prompts, ids)
    progress = Progress("compare")
    try:
        source = next((side.source for side in sides if side.source is not None), None)
        report = engine.compare(*sides, sequences, tokens=max_tokens, inventory=source.inventory if source else None, tolerance=tolerance, progress=progress)
    finally:
        progress.close()
    document = {"schema": "weighbridge.compare/1", **report.document()}
    _texts(document, tokenizer)
    picture = output is not None and output.suffix.lower() == ".svg"
    if picture:
        sink.save_or_put(compare_svg.svg(document), output)
    sink.emit(document, compare_text.text, compare_text.markdown, format, None if picture else output)
    return 0 if report.ok else OUT_OF_TOLERANCE


def _require(tokens: int, tolerance: float | None) -> None:
    if not 0 <= tokens <= 1 << 16:
        raise Usage(f"{tokens} is no number of greedy steps", "--max-tokens", "give 0 to 65,536")
    if tolerance is not None and not 0 < tolerance < float("inf"):
        raise Usage(f"{tolerance} is no relative error", "--tolerance", "give a positive number, such as 0.05")


def _shares(limit: int | None) -> Iterator[int | None]:
    """The limit for each side in turn: half of the room. An engine counts what the process holds when it is loaded, the first one included."""
    from weighbridge.engine.memory import resident_set

    held = resident_set() if limit is not None else 0
    while True:
        yield limit if limit is None or limit <= held else resident_set() + (limit - held) // 2


def _side(path: str, names: Path | None, numerics: str, settings: dict[str, Any], shares: Iterator[int | None]) -> tuple[Side, Checkpoint | None]:
    from weighbridge.checkpoint.source import open_checkpoint
    from weighbridge.engine import compare as engine

    recorded = engine.open_capture(path, names)
    if recorded is not None:
        return engine.CaptureSide(recorded), None
    from weighbridge.engine.engine import load
    from weighbridge.plan.bind import bind

    checkpoint = open_checkpoint(path)
    source = bind(checkpoint)
    try:
        loaded = load(source, numerics=numerics, max_memory=next(shares), **settings)
    except Refused as error:
        raise Refused([replace(p, hint="each of two checkpoints gets half of the room: give more to --max-memory, or compare with a capture")
                       if p.code == "memory" else p for p in error.problems]) from error
    return engine.EngineSide(loaded, source, numerics), checkpoint


def _sequences(sides: list[Side], checkpoints: list[Checkpoint | None], prompt: list[str] | None, prompts: Path | None,
               ids: list[str] | None) -> tuple[list[list[int]], Any]:
    """Token ids to run, and a tokenizer where one was needed or is at hand."""
    recorded = next((side for side in sides if hasattr(side, "capture")), None)
    checkpoint = next((c for c in checkpoints if c is not None), None)
    if recorded is not None:
        if prompt or prompts or ids:
            raise Usage("a capture brings its own prompt", "--prompt", "leave --prompt, --prompts and --ids out")
        return [list(each.ids) for each in recorded.capture.sequences], _tokenizer(checkpoint, False)  # type: ignore[attr-defined]
    if ids:
        if prompt or prompts:
            raise Usage("--ids goes without --prompt and --prompts", "--ids")
        return [_ids(text) for text in ids], _tokenizer(checkpoint, False)
    assert checkpoint is not None
    tokenizer = _tokenizer(checkpoint, True)
    texts = [*(prompt or ()), *(_lines(prompts) if prompts else ())]
    if texts:
        return [tokenizer.encode(text) for text in texts], tokenizer
    size = checkpoint.files.get(TEXT, 0)
    if 0 < size <= TEXT_LIMIT:
        whole = tokenizer.encode(checkpoint.store.read(TEXT, 0, size).decode("utf-8", "replace"))
        return [whole[at : at + WINDOW] for at in range(0, min(len(whole), WINDOW * WINDOWS), WINDOW)], tokenizer
    return [tokenizer.encode(text) for text in PROMPTS], tokenizer


def _lines(path: Path) -> list[str]:
    if not path.is_file() or path.stat().st_size > TEXT_LIMIT:
        raise Usage(f"no text file of at most {TEXT_LIMIT:,} bytes", str(path), "give a file with one prompt on each line")
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if not lines:
        raise Usage("the file holds no prompt", str(path), "give a file with one prompt on each line")
    return lines


def _ids(text: str) -> list[int]:
    parts = text.replace(",", " ").split()
    if not parts or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise Usage(f"{text[:80]!r} is no list of token ids", "--ids", "write --ids 1,2,3")
    return [int(part) for part in parts]


def _tokenizer(checkpoint: Checkpoint | None, needed: bool) -> Any:
    """The tokenizer of the checkpoint; None where it is not needed and cannot be had."""
    if checkpoint is None:
        return None
    try:
        from weighbridge.engine.tokenizer import Tokenizer

        return Tokenizer(checkpoint)
    except (WeighbridgeError, ImportError):
        if needed:
            raise
        return None


def _texts(document: dict[str, Any], tokenizer: Any) -> None:
    """The text of the two tokens at which greedy decoding parts, where a tokenizer is at hand."""
    parts = document["first_different_token"]
    if parts is not None and tokenizer is not None:
        parts |= {f"{side}_text": tokenizer.decode([parts[side]]) if parts[side] >= 0 else "" for side in ("a", "b")}

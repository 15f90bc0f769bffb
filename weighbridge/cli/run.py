"""`weighbridge run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from weighbridge.cli import common
from weighbridge.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from weighbridge.engine.generate import Model

TEXT_LIMIT = 64_000_000  # bytes of a text to score, or of a prompt


def run(
    src: str,
    /,
    *,
    prompt: str | None = None,
    chat: bool = False,
    max_tokens: int = 128,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    seed: int | None = None,
    max_memory: str | None = None,
    layers: str | None = None,
    numerics: Literal["plain", "neuron"] = "plain",
    tp: int = 0,
    score: Path | None = None,
    capture: Path | None = None,
    format: Literal["text", "json"] = "text",
    output: Path | None = None,
) -> int:
    """Does it talk? Text from the stored bytes, FP8 or converted, on a plain CPU, in a stated amount of memory.

    The prompt comes from -p, or from stdin. stdout is the text; stderr says what is read, and how fast it went.

    Parameters
    ----------
    src
        A folder in any layout that convert reads: hf-fp8, hf-bf16, neuron, or its per-rank shards.
    prompt
        The text to go on from.
    chat
        A conversation in the checkpoint's own template; with -p one question and its answer. Words that spell a control token become it.
    max_tokens
        Most tokens to make.
    temperature
        0 takes the likeliest token. Default: generation_config.json.
    top_p
        Share of the probability that is left in. Default: generation_config.json.
    top_k
        Number of tokens that are left in; 0 is all. Default: generation_config.json.
    seed
        Equal seeds give equal text.
    max_memory
        Most memory of the process: 8GB, 512MiB. Default: WEIGHBRIDGE_MEMORY. Experts that do not fit are read when they are chosen.
    layers
        Run only layers A to B - 1, as A:B.
    numerics
        neuron: as an AWS Neuron device reads codes, norms and the router.
    tp
        Ranks that neuron numerics imitate. 0 takes tp_degree of neuron_config.json.
    score
        Nats per token and bits per byte on this text, instead of making one.
    capture
        Write the activations of the prompt into this new folder.
    format
        text or json (schema weighbridge.run/1).
    output
        Write the document into this file instead of stdout.
    """
    from weighbridge.report import sink
    from weighbridge.report.run import text as run_text
    from weighbridge.report.visible import lines

    _agree(prompt, chat, score, capture, format, output)
    text = "" if score is not None else _prompt(prompt, chat)
    model = _load(src, max_memory, layers, numerics, tp)
    sink.talk(run_text.plan(model.engine, src))
    if score is not None:
        document = _score(model, score)
        sink.emit(document, run_text.score, None, format, output)
        return 0
    settings = model.sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed)
    if chat and prompt is None:
        _converse(model, max_tokens, settings)
        return 0
    ids = _ids(model, text, chat)
    if capture is not None:
        _capture(model, ids, capture, numerics)
    show = format == "text" and output is None
    said = _say(model, ids, max_tokens, settings, show)
    document = run_text.document(src, said, model.timing)
    if show:
        sink.stream("\n")
    elif format == "text":
        sink.save_or_put(lines(said, prose=True), output)
    else:
        sink.save_or_put(sink.to_json(document), output)
    sink.talk(run_text.speed(document, model.timing))
    return 0


def _agree(prompt: str | None, chat: bool, score: Path | None, capture: Path | None, format: str, output: Path | None) -> None:
    """Refuse options of which one would be dropped without a word."""
    if score is not None:
        given = [flag for flag, there in (("--chat", chat), ("-p", prompt is not None), ("--capture", capture is not None)) if there]
        if given:
            raise Usage(f"{given[0]} and --score exclude each other", f"{given[0]}, --score", "score a text in a run of its own")
    if chat and prompt is None:
        single = (("--capture", capture is not None), ("--format json", format == "json"), ("-o", output is not None))
        given = [flag for flag, there in single if there]
        if given:
            raise Usage(f"{given[0]} is for one question, and --chat without -p asks many", f"--chat, {given[0]}", "give the question with -p")


def _prompt(given: str | None, chat: bool) -> str:
    if given is not None:
        return given
    if chat:
        return ""
    if sys.stdin is None or sys.stdin.isatty():
        raise Usage("there is no prompt", "-p", "write -p TEXT, or send the text to stdin")
    return _heard(sys.stdin.read)


def _heard(read: Callable[[int], str]) -> str:
    """Text from stdin. A strict locale refuses here what is not UTF-8; another one lets the tokenizer say it."""
    try:
        return read(TEXT_LIMIT)
    except UnicodeDecodeError as error:
        raise Usage(f"is not UTF-8: byte {error.object[error.start]:#04x} at {error.start:,}", "stdin", "send text in UTF-8") from error


def _load(src: str, max_memory: str | None, layers: str | None, numerics: str, tp: int) -> Model:
    from weighbridge.api import load

    return load(src, max_memory=common.memory_limit(max_memory), layers=common.layers(layers), numerics=numerics, tp=tp)


def _ids(model: Model, text: str, chat: bool) -> list[int]:
    if not chat:
        return model.tokenizer.encode(text)
    from weighbridge.engine.chat import Chat

    return model.tokenizer.encode(Chat(model.checkpoint).prompt(text), special=False)


def _say(model: Model, ids: list[int], max_tokens: int, settings: Any, show: bool) -> str:
    from weighbridge.report.sink import stream

    said = []
    for piece in model.pieces(ids, max_tokens, settings):
        said.append(piece.text)
        if show and piece.text:
            stream(piece.text)
    return "".join(said)


def _converse(model: Model, max_tokens: int, settings: Any) -> None:
    """Question and answer until the end of the input; the history is kept."""
    from weighbridge.engine.chat import Chat
    from weighbridge.report import sink
    from weighbridge.report.run import text as run_text

    if sys.stdin is None:
        raise Usage("there is no stdin to read questions from", "--chat", "give the question with -p")
    talk = Chat(model.checkpoint)
    while True:
        if sys.stdin.isatty():
            sink.talk("you> (empty line to end)")
        line = _heard(sys.stdin.readline).strip()
        if not line:
            return
        said = _say(model, model.tokenizer.encode(talk.prompt(line), special=False), max_tokens, settings, True)
        talk.answered(said)
        sink.stream("\n")
        sink.talk(run_text.speed(run_text.document("", said, model.timing), model.timing))


def _capture(model: Model, ids: list[int], folder: Path, numerics: str) -> None:
    from weighbridge.engine.capture import write_capture
    from weighbridge.report.sink import talk
    from weighbridge.report.visible import visible

    write_capture(folder, model.engine, [ids], source=model.engine.source, numerics=numerics, decode=model.tokenizer.token)
    talk(f"wrote the activations of {len(ids):,} tokens into {visible(str(folder))}")


def _score(model: Model, path: Path) -> dict[str, Any]:
    from weighbridge.engine.score import score
    from weighbridge.report.progress import Progress
    from weighbridge.report.run import text as run_text

    if not path.is_file() or path.stat().st_size > TEXT_LIMIT:
        raise Usage(f"no text file of at most {TEXT_LIMIT:,} bytes", str(path), "give a file with text to --score")
    text = path.read_text(encoding="utf-8", errors="replace")
    ids = model.tokenizer.encode(text)
    if len(ids) < 2:
        raise Usage(f"the text has {len(ids)} tokens; the first is given, so at least 2 are needed", str(path), "give a longer text")
    first = len(model.tokenizer.decode(ids[:1]).encode())
    progress = Progress("score")
    try:
        return run_text.score_document(model.checkpoint.label, score(model.engine, ids, len(text.encode()) - first, progress=progress))
    finally:
        progress.close()

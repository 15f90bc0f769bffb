"""`run` for people and scripts: what will be read, how fast it went, and its documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weighbridge.report.units import count, size
from weighbridge.report.visible import visible

if TYPE_CHECKING:
    from weighbridge.engine.engine import Engine
    from weighbridge.engine.generate import Timing
    from weighbridge.engine.score import Score

DISK = 1_700_000_000  # bytes/s of a cold read by position, measured once on a cloud machine's disk: only to give an order of size


def plan(engine: Engine, source: str) -> str:
    """One or two lines before the first token: what stays in memory, what is read again, and the floor that the disk sets."""
    plan = engine.plan
    arch = engine.architecture
    line = (f"{visible(source)}: {engine.inventory.model_type}, {count(len(plan.layers), 'layer')}, context {arch.context:,}; "
            f"{size(plan.active_bytes_per_token)} of weights per token")
    if plan.limit is None:
        return f"{line}, {size(plan.resident_bytes)} in all"
    if not plan.streamed_bytes:
        return f"{line}, all {size(plan.resident_bytes)} fit into {size(plan.limit)}"
    floor = plan.floor_bytes_per_token
    return (f"{line}; {size(plan.resident_bytes)} stay in memory, {size(plan.streamed_bytes)} of experts are read when chosen, "
            f"{size(plan.cache_bytes)} of them are kept\n"
            f"from the disk at least {size(floor)} per token if experts are chosen evenly: {floor / DISK:.2f} s at {size(DISK)}/s")


def document(source: str, text: str, timing: Timing) -> dict[str, Any]:
    return {
        "schema": "weighbridge.run/1", "source": source, "text": text,
        "prompt_tokens": timing.prompt_tokens, "tokens": timing.tokens, "ended": timing.ended,
        "tokens_per_second": round(timing.tokens_per_second, 3),
        "prompt_tokens_per_second": round(timing.prompt_tokens / timing.prompt_seconds, 3) if timing.prompt_seconds else None,
        "bytes_per_token": timing.bytes_per_token, "peak_memory_bytes": peak_memory(),
    }


def speed(document: dict[str, Any], timing: Timing) -> str:
    """One line after the last token."""
    prompt = f"prompt {count(timing.prompt_tokens, 'token')} in {timing.prompt_seconds:.2f} s"
    rate = f"{document['tokens_per_second']:.1f} tokens/s, {size(document['bytes_per_token'])} of weights per token"
    made = f"{count(len(timing.tokens), 'token')} at {rate}"
    return f"{prompt}; {made}; peak memory {size(document['peak_memory_bytes'])}"


def score_document(source: str, found: Score) -> dict[str, Any]:
    from weighbridge.engine.score import WINDOW

    return {"schema": "weighbridge.run/1", "source": source, "nats_per_token": found.nats_per_token, "nats_stderr": found.stderr,
            "bits_per_byte": found.bits_per_byte, "scored_tokens": found.scored_tokens, "window": WINDOW, "peak_memory_bytes": peak_memory()}


def score(document: dict[str, Any]) -> str:
    return (f"{document['nats_per_token']:.4f} nats/token (standard error {document['nats_stderr']:.4f}), {document['bits_per_byte']:.4f} bits/byte\n"
            f"{count(document['scored_tokens'], 'token')} in windows of {document['window']}")


def peak_memory() -> int:
    """Largest resident memory of this process so far, mapped files included; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", "rb") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM:")), 0)
    except OSError:
        return 0

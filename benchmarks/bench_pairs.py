"""From one layout of safetensors to another, on a true-shape piece: how exact, how fast, and beside the tool that people use for that pair.

    python -m benchmarks.bench_pairs [--rounds N] [--work FOLDER] [--no-peers] [--only REGEX]

The piece is one layer of MiniMax-M2 with 24 experts, its attention and a small vocabulary, 0.5 GB of FP8. Every other source is made from it. A pair
is graded by `verify` once. Then whole processes run by turns: ours, ours on a tiny checkpoint (start-up), plain writes of the same bytes, the peer's.

Peers: compressed-tensors' converters and llm-compressor's model_free_ptq, when a Python of WEIGHBRIDGE_PEERS_PYTHON has them. A pair without a peer
has none that runs on a CPU; the public scripts for it want CUDA (benchmarks/README.md).
"""
from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import harness
from benchmarks.bench_convert import plain, timed
from weighbridge.testing.replica import write_replica
from weighbridge.testing.tiny import write_tiny

OURS = "import json, sys, weighbridge as wb; wb.open(sys.argv[1]).convert(sys.argv[2], sys.argv[3], **json.loads(sys.argv[4]))"
_CT = "import sys; from compressed_tensors.entrypoints.convert import *; convert_checkpoint(sys.argv[1], sys.argv[2], {})"
_PTQ = ("import sys; from llmcompressor import model_free_ptq; model_free_ptq(sys.argv[1], sys.argv[2], scheme={!r}, "
        "ignore=['re:.*gate$', 'lm_head', 're:.*embed_tokens'], max_workers=2, device='cpu'{})")
# llm-compressor 0.14 needs compressed-tensors 0.19, whose converter takes names.
_FIRST = ", converter=__import__('compressed_tensors.entrypoints.convert', fromlist=['x']).FP8BlockDequantizer(targets=[r're:.*(proj|w1|w2|w3)$'])"
_FROM_FP8 = _CT.format("FP8BlockDequantizer.from_pretrained(sys.argv[1])")
_FROM_CT = _CT.format("CompressedTensorsDequantizer(sys.argv[1])")
_FROM_MODELOPT = _CT.format("ModelOptNvfp4Converter(ignore=['lm_head', 're:.*gate$', 're:.*embed_tokens'], targets=[r're:.*(proj|w1|w2|w3)$'])")
_FROM_AWQ = _CT.format("AutoAWQConverter(targets=[r're:.*(proj|w1|w2|w3)$'])")


class Pair(NamedTuple):
    """`source` is a name of SOURCES; `peer` the code of a peer, which gets source and destination."""

    source: str
    layout: str
    options: dict[str, Any]
    peer: str = ""


# Source -> (the source that it is made from, layout, options).
SOURCES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bf16": ("fp8", "hf-bf16", {}), "ct-fp8-block": ("fp8", "ct-fp8-block", {}), "modelopt-fp8-block": ("fp8", "modelopt-fp8-block", {}),
    "ct-nvfp4": ("bf16", "ct-nvfp4", {}), "modelopt-nvfp4": ("bf16", "modelopt-nvfp4", {}), "ct-mxfp4": ("bf16", "ct-mxfp4", {}),
    "ct-int4": ("bf16", "ct-int4", {}), "awq-int4": ("bf16", "awq-int4", {}), "gptq-int4": ("bf16", "gptq-int4", {})}
INEXACT = {"inexact": True}
PAIRS = (
    Pair("fp8", "hf-bf16", {}, _FROM_FP8), Pair("bf16", "hf-fp8", {}),
    Pair("ct-mxfp4", "hf-fp8", {}),
    Pair("fp8", "ct-fp8-block", {}), Pair("ct-fp8-block", "hf-fp8", {}), Pair("fp8", "modelopt-fp8-block", {}),
    Pair("modelopt-fp8-block", "ct-fp8-block", {}),
    Pair("modelopt-nvfp4", "ct-nvfp4", {}, _FROM_MODELOPT), Pair("ct-nvfp4", "modelopt-nvfp4", {}), Pair("ct-nvfp4", "hf-bf16", {}, _FROM_CT),
    Pair("ct-mxfp4", "hf-bf16", {}, _FROM_CT), Pair("ct-mxfp4", "modelopt-nvfp4", {}), Pair("bf16", "ct-mxfp4", {}, _PTQ.format("MXFP4A16", "")),
    Pair("ct-int4", "hf-bf16", {}, _FROM_CT), Pair("bf16", "ct-int4", {}, _PTQ.format("W4A16", "")),
    Pair("awq-int4", "ct-int4", {"zero_points": True}, _FROM_AWQ), Pair("gptq-int4", "ct-int4", {}), Pair("awq-int4", "gptq-int4", {}),
    Pair("bf16", "ct-fp8-block", {}, _PTQ.format("FP8_BLOCK", "")), Pair("bf16", "ct-fp8-channel", {}, _PTQ.format("FP8_DYNAMIC", "")),
    Pair("bf16", "ct-mxfp8", {}, _PTQ.format("MXFP8", "")),
    Pair("fp8", "ct-nvfp4", INEXACT, _PTQ.format("NVFP4A16", _FIRST)), Pair("bf16", "ct-nvfp4", {}, _PTQ.format("NVFP4A16", "")),
    Pair("fp8", "ct-int8", INEXACT, _PTQ.format("INT8", _FIRST)))


def ours(source: Path, out: Path, pair: Pair) -> list[object]:
    return [sys.executable, "-c", OURS, source, out, pair.layout, json.dumps(pair.options)]


def command(pair: Pair) -> str:
    flags = (f" --{name.replace('_', '-')}" for name, value in pair.options.items() if value is True)
    return f"{pair.source} --to {pair.layout}{''.join(flags)}"


def peer(pair: Pair, source: Path, out: Path) -> list[object]:
    """The peer's command, empty where it has none on this machine."""
    module = "llmcompressor" if "llmcompressor" in pair.peer else "compressed_tensors"
    python = harness.peer_python(module) if pair.peer else None
    return [python, "-c", pair.peer, source, out] if python else []


def made(work: Path, root: str, name: str) -> Path:
    """The folder of a source, made from another where it is not there. `root` is `piece` or `tiny`."""
    folder = work / root / name
    if not folder.exists() and name == "fp8":
        write_replica(folder, layers=1, experts=24, vocab=8192, data="random") if root == "piece" else write_tiny(folder)
    elif not folder.exists():
        before, layout, options = SOURCES[name]
        harness.run(ours(made(work, root, before), folder, Pair(before, layout, options)))
    return folder


def grade(source: Path, out: Path) -> str:
    """What `verify` says: its worst grade, with the measured error where one is bounded."""
    told = json.loads(harness.run([*harness.WEIGHBRIDGE, "verify", source, out, "--format", "json"], accept=(0, 3)).output)
    grades = told["grades"]
    if grades.get("wrong"):
        return f"WRONG: {grades['wrong']} weights"
    if grades.get("bounded"):
        return f"bounded, {told['total_sqnr_db'] or float('inf'):.1f} dB"
    return "exact" if grades.get("exact") else "identical"


def measure(pair: Pair, work: Path, options: Any) -> Iterator[str]:
    """Cells of a row: the way, the grade, ours net of start-up, plain writes over it, and the peer over ours."""
    source, tiny, out = made(work, "piece", pair.source), made(work, "tiny", pair.source), work / "out"
    whole, start = timed(ours(source, out, pair), out), timed(ours(tiny, out, pair), out)
    start()
    whole()
    yield command(pair)
    yield grade(source, out)
    turns = {"ours": whole, "start-up": start, "plain": plain(out, [p.stat().st_size for p in out.glob("*.safetensors")])}
    other = [] if options.no_peers else peer(pair, source, out)
    if other:
        turns["peer"] = timed(other, out)
        try:
            turns["peer"]()
        except RuntimeError as error:
            print(f"{command(pair)}: the peer fails: {str(error).strip().splitlines()[-1][:200]}", file=sys.stderr)
            del turns["peer"]
    seconds = {name: harness.median(values) for name, values in harness.by_turns(turns, options.rounds).items()}
    net = max(seconds["ours"] - seconds["start-up"], 1e-3)
    yield f"{net:.2f} s"
    yield f"{seconds['plain'] / net:.2f}"
    yield f"{seconds['peer'] / seconds['ours']:.1f}" if "peer" in seconds else ("fails" if other else "-")
    shutil.rmtree(out, ignore_errors=True)


def main() -> None:
    options = harness.arguments(__doc__, rounds=3, only=True)
    with harness.work_folder(options.work) as work, harness.foreign_load():
        print("| pair | verify | net | plain writes / net | peer / ours |\n| --- | --- | --- | --- | --- |")
        for pair in PAIRS:
            if re.search(options.only, command(pair)):
                print("| " + " | ".join(measure(pair, work, options)) + " |", flush=True)


if __name__ == "__main__":
    main()

"""Whole conversions of a true-shape piece of MiniMax-M2: 2 layers, 32 experts, about 1.1 GB.

    python -m benchmarks.bench_convert [--rounds N] [--work FOLDER] [--no-peers]

`convert --to neuron` and `--to hf-bf16`, from process start to files closed, JIT cache warm. Start-up is measured on
a tiny checkpoint in the same run. The floor is plain writes of the same bytes (plain_writes.py). Peers, when present:
the public scripts in the folder of WEIGHBRIDGE_PEERS, and compressed-tensors. Last, the peak of anonymous memory for
2 and for 8 layers.
"""
from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import harness
from weighbridge.testing.replica import write_replica
from weighbridge.testing.safetensors_writer import read_header
from weighbridge.testing.tiny import write_tiny

PIECE = {"experts": 32, "vocab": 8192, "data": "random"}
COMPRESSED_TENSORS = (
    "import sys; from compressed_tensors.entrypoints.convert import FP8BlockDequantizer, convert_checkpoint; "
    "convert_checkpoint(sys.argv[1], sys.argv[2], FP8BlockDequantizer.from_pretrained(sys.argv[1]))"
)


def convert(source: Path, out: Path, layout: str) -> list[object]:
    return [*harness.WEIGHBRIDGE, "convert", source, out, "--to", layout, "--format", "json"]


def peers(source: Path, out: Path, layout: str) -> dict[str, list[object]]:
    """The commands of the peers that are on this machine."""
    python = harness.peer_python("torch", "safetensors", "tqdm")
    found: dict[str, list[object]] = {}
    if python and layout == "neuron" and (script := harness.peer("preprocess_minimax_m2_fp8.py")):
        found["HF -> Neuron script"] = [python, script, "--hf_model_path", source, "--save_path", out]
    if python and layout == "hf-bf16":
        if script := harness.peer("convert_minimax_m2_fp8_to_bf16.py"):
            found["FP8 -> BF16 script"] = [
                python, script, "--input_dir", source, "--output_dir", out, "--device", "cpu",
            ]
        if harness.peer_python("compressed_tensors"):
            found["compressed-tensors"] = [python, "-c", COMPRESSED_TENSORS, source, out]
    return found


def timed(command: list[object], out: Path) -> Callable[[], float]:
    """A candidate for by_turns: a whole process that writes into a fresh folder."""

    def candidate() -> float:
        harness.fresh(out)
        return harness.run(command).seconds

    return candidate


def plain(out: Path, sizes: list[int]) -> Callable[[], float]:
    """A candidate for by_turns: plain writes, timed without the start of their process."""

    def candidate() -> float:
        command = [sys.executable, Path(__file__).with_name("plain_writes.py"), harness.fresh(out), *sizes]
        return float(harness.run(command).output)

    return candidate


def compare(layout: str, work: Path, options) -> None:
    """One table: this tool, its start-up, the floor, the peers."""
    source, tiny, out = work / "piece-2", work / "tiny", work / "out"
    whole, start_up = timed(convert(source, out, layout), out), timed(convert(tiny, out, layout), out)
    start_up()
    whole()  # Both fill the JIT cache and the page cache.
    sizes = [path.stat().st_size for path in out.glob("*.safetensors")]
    turns = {"weighbridge": whole, "start-up": start_up, "plain writes": plain(out, sizes)}
    commands = {} if options.no_peers else peers(source, out, layout)
    left: dict[str, int] = {}
    turns |= {name: counted(timed(command, out), out, name, left) for name, command in commands.items()}
    with harness.foreign_load():
        seconds = harness.by_turns(turns, options.rounds)
        report(layout, source, sum(sizes), seconds)
        for name in left if layout == "hf-bf16" else ():
            print(f"  {name}: {left[name]} weights still FP8 in its output")
    shutil.rmtree(out, ignore_errors=True)


def counted(candidate: Callable[[], float], out: Path, name: str, left: dict[str, int]) -> Callable[[], float]:
    """Counts what a peer left in FP8. A script that looks for scales in the same shard only does less work."""

    def wrapped() -> float:
        seconds = candidate()
        entries = [entry for path in out.glob("*.safetensors") for entry in read_header(path)[0].values()]
        left[name] = sum(entry.get("dtype") == "F8_E4M3" for entry in entries)
        return seconds

    return wrapped


def report(layout: str, source: Path, written: int, seconds: dict[str, list[float]]) -> None:
    medians = {name: harness.median(values) for name, values in seconds.items()}
    read = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    print(f"to {layout}: {read / 1e9:.2f} GB read, {written / 1e9:.2f} GB written")
    for name, values in seconds.items():
        print(f"  {name:20} {harness.spread(values)}")
    ours, net = medians["weighbridge"], medians["weighbridge"] - medians["start-up"]
    print(f"  input GB/s: {read / ours / 1e9:.2f} in all, {read / net / 1e9:.2f} net of start-up")
    print(f"  plain writes / net: {medians['plain writes'] / net:.2f}")
    for name in list(medians)[3:]:
        print(f"  {name} / weighbridge: {medians[name] / ours:.1f}")


def memory(work: Path, layers: int, layout: str) -> str:
    source, out = work / f"piece-{layers}", work / "out"
    peak = harness.run(convert(source, harness.fresh(out), layout), sample_memory=True).peak_anonymous
    shutil.rmtree(out, ignore_errors=True)
    return f"{layers} layers {peak / 1e6:.0f} MB"


def main() -> None:
    options = harness.arguments(__doc__, rounds=5)
    with harness.work_folder(options.work) as work:
        for layers in (2, 8):
            if not (work / f"piece-{layers}").exists():
                write_replica(work / f"piece-{layers}", layers=layers, **PIECE)
        if not (work / "tiny").exists():
            write_tiny(work / "tiny")
        for layout in ("neuron", "hf-bf16"):
            compare(layout, work, options)
        print("peak anonymous memory")
        for layout in ("neuron", "hf-bf16"):
            print(f"  {layout:8} {', '.join(memory(work, layers, layout) for layers in (2, 8))}")


if __name__ == "__main__":
    main()

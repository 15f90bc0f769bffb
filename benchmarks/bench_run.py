"""Decoding and prefill of a true-shape piece of MiniMax-M2: 2 layers, 16 experts of which 8 work, vocabulary 8192, 0.6 GB.

    python -m benchmarks.bench_run [--rounds N] [--work FOLDER] [--no-peers]

Three tables: the matrices of one token from the mapped FP8 files, with the share of the time that merely reading the same
bytes takes; the whole model at batch 1 in tokens per second; 256 tokens at once. The peer is transformers on the
BF16 checkpoint that `convert --to hf-bf16` makes, with its experts as "grouped_mm" and as "eager", with as many threads.
"""
from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numba import njit

import weighbridge as wb
from benchmarks import harness
from weighbridge.engine.linear import Experts, Linear, threads
from weighbridge.engine.team import together
from weighbridge.plan.reader import Reader
from weighbridge.testing.replica import write_replica

PIECE = {"layers": 2, "experts": 16, "vocab": 8192, "data": "random"}
CHOSEN, TOKENS, PROMPT = 8, 16, 256
IMPLEMENTATIONS = ("grouped_mm", "eager")  # batched_mm copies the weights of every token's experts: ten times slower


class Matrices:
    """Every matrix that a token passes, over the mapped files of the checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.source = wb.open(folder).source
        self.reader, sizes = Reader(self.source), self.source.inventory.sizes
        experts, layers = range(sizes["experts"]), range(sizes["layers"])
        self.qkv = [self.below(*(f"layers.{n}.attn.{p}" for p in "qkv")) for n in layers]
        self.o = [self.below(f"layers.{n}.attn.o") for n in layers]
        self.experts = [Experts(*([self.below(f"layers.{n}.moe.experts.{e}.{kind}") for e in experts] for kind in ("gate", "up", "down")))
                        for n in layers]
        self.head = self.below("head")
        rng = np.random.default_rng(0)
        self.chosen = [rng.permutation(sizes["experts"])[None, :CHOSEN] for _ in range(64)]
        self.x = [rng.standard_normal((1, linear.shape[1])).astype(np.float32) for linear in (self.qkv[0], self.o[0], self.head)]
        self.token = 0

    def below(self, *names: str) -> Linear:
        """Logical matrices below each other as one."""
        parts, row = [], 0
        for name in names:
            ((number, _),) = self.source.holders[name]
            parts.append((row, 0, self.reader.matrix(self.source.bound[number])))
            row += parts[-1][2].shape[0]
        return Linear(parts, (row, parts[0][2].shape[1]))

    def nbytes(self) -> dict[str, int]:
        """Bytes of codes and scales that one token reads."""
        share = CHOSEN / len(self.experts[0].gate)
        return {"q, k, v": sum(m.nbytes for m in self.qkv), "o": sum(m.nbytes for m in self.o), "head": self.head.nbytes,
                "experts": int(share * sum(m.nbytes for m in self.experts))}

    def run(self, what: str) -> None:
        self.token += 1
        chosen, weights = self.chosen[self.token % len(self.chosen)], np.full((1, CHOSEN), 1 / CHOSEN, np.float32)
        wide, inner, last = self.x
        for n in range(len(self.qkv)):
            if what in ("q, k, v", "all"):
                self.qkv[n](wide)
            if what in ("o", "all"):
                self.o[n](inner)
            if what in ("experts", "all"):
                self.experts[n](wide, chosen, weights)
        if what in ("head", "all"):
            self.head(last)


@njit(nogil=True, fastmath=True)
def total(words):
    found = 0
    for word in words:
        found += word
    return found


class Reading:
    """Only reads: a sum over as many bytes of the same mapped files, by the same threads."""

    def __init__(self, reader: Reader) -> None:
        for tensor in reader.source.checkpoint.tensors.values():
            reader.bytes_of(tensor)
        self.words = [data[: len(data) // 8 * 8] for data in reader.maps.values()]
        self.words = [data.view(np.int64) for data in self.words if data.ctypes.data % 8 == 0]

    def run(self, size: int) -> None:
        left, pieces = size // 8, []
        for words in self.words:
            pieces.append(words[:left])
            left -= len(pieces[-1])
        assert left <= 0, "the files are smaller than what is to be read"
        for piece in (p for p in pieces if len(p)):
            step = -(-len(piece) // threads())
            together(total, [piece[start : start + step] for start in range(0, len(piece), step)])


def timed(function: Callable[[], object], repeat: int = 1) -> Callable[[], float]:
    """A candidate for by_turns: seconds of one of `repeat` calls."""

    def candidate() -> float:
        start = time.perf_counter()
        for _ in range(repeat):
            function()
        return (time.perf_counter() - start) / repeat

    candidate()  # Compiles, and fills the page cache.
    return candidate


def matrices(folder: Path, rounds: int) -> None:
    made = Matrices(folder)
    reading, sizes = Reading(made.reader), made.nbytes()
    sizes["all"] = sum(sizes.values())
    turns = {name: timed(partial(made.run, name), 4) for name in sizes}
    turns |= {f"reading {name}": timed(partial(reading.run, size), 4) for name, size in sizes.items()}
    with harness.foreign_load():
        medians = {name: harness.median(taken) for name, taken in harness.by_turns(turns, rounds).items()}
        print(f"matrices of one token, {threads()} threads")
        for name, size in sizes.items():
            own, bound = medians[name], medians[f"reading {name}"]
            print(f"  {name:10} {size / 1e6:7.1f} MB {own * 1e3:8.2f} ms {size / own / 1e9:6.1f} GB/s   reading alone {bound * 1e3:7.2f} ms"
                  f"   share {bound / own:.2f}")


class Peer:
    """transformers in a process of its own, which answers commands."""

    def __init__(self, python: str, folder: Path, experts: str) -> None:
        command = [python, harness.ROOT / "benchmarks" / "peer_transformers.py", folder, experts, threads()]
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True)
        if not self.answer().startswith("ready"):
            raise RuntimeError(f"transformers with {experts} experts did not start")

    def answer(self) -> str:
        return self.process.stdout.readline()

    def seconds(self, command: str) -> float:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def peers(work: Path, wanted: bool) -> Iterator[dict[str, Peer]]:
    """The peers that this machine can run. Their weights are BF16, made from the piece."""
    python = harness.peer_python("torch", "transformers") if wanted else None
    with ExitStack() as stack:
        found = {}
        if python:
            if not (work / "run-bf16").exists():
                wb.open(work / "run-fp8").convert(work / "run-bf16", "hf-bf16")
            for name in IMPLEMENTATIONS:
                found[f"transformers, {name}"] = Peer(python, work / "run-bf16", name)
                stack.callback(found[f"transformers, {name}"].close)
        yield found


class Ours:
    """The engine on the FP8 checkpoint."""

    def __init__(self, folder: Path) -> None:
        from weighbridge.engine import engine

        self.engine = engine.load(wb.open(folder).source)

    def tokens(self, count: int) -> np.ndarray:
        return np.arange(1, count + 1) * 31 % PIECE["vocab"]

    def prefill(self, count: int) -> float:
        session, ids = self.engine.session(count), self.tokens(count)
        start = time.perf_counter()
        session.feed(ids, rows="last")
        return time.perf_counter() - start

    def decode(self, count: int) -> float:
        session = self.engine.session(count + 16)
        logits = session.feed(self.tokens(16), rows="last")
        start = time.perf_counter()
        for _ in range(count):
            logits = session.feed(np.array([int(np.argmax(logits))]), rows="last")
        return time.perf_counter() - start


def whole_model(work: Path, rounds: int, with_peers: bool) -> None:
    ours, made = Ours(work / "run-fp8"), Matrices(work / "run-fp8")
    size, reading = sum(made.nbytes().values()), Reading(made.reader)
    with peers(work, with_peers) as found, harness.foreign_load():
        turns = {"weighbridge": lambda: ours.decode(TOKENS) / TOKENS, "reading alone": timed(partial(reading.run, size), TOKENS)}
        turns |= {name: lambda p=peer: p.seconds(f"decode {TOKENS}") / TOKENS for name, peer in found.items()}
        for candidate in turns.values():
            candidate()
        report(f"decoding at batch 1, seconds per token ({TOKENS} tokens, {size / 1e6:.0f} MB each)", harness.by_turns(turns, rounds), per=1)
        turns = {"weighbridge": lambda: ours.prefill(PROMPT)}
        turns |= {name: lambda p=peer: p.seconds(f"prefill {PROMPT}") for name, peer in found.items()}
        for candidate in turns.values():
            candidate()
        report(f"prefill of {PROMPT} tokens", harness.by_turns(turns, max(2, rounds // 3)), per=PROMPT)


def report(title: str, seconds: dict[str, list[float]], per: int) -> None:
    print(title)
    own = harness.median(seconds["weighbridge"])
    for name, taken in seconds.items():
        ratio = "" if name == "weighbridge" else f"   {harness.median(taken) / own:.2f} of weighbridge's time"
        print(f"  {name:26} {harness.spread(taken)} {per / harness.median(taken):8.1f} tokens/s{ratio}")


def main() -> None:
    options = harness.arguments(__doc__, rounds=9)
    with harness.work_folder(options.work) as work:
        if not (work / "run-fp8").exists():
            write_replica(work / "run-fp8", **PIECE)
        matrices(work / "run-fp8", options.rounds)
        whole_model(work, options.rounds, not options.no_peers)


if __name__ == "__main__":
    main()

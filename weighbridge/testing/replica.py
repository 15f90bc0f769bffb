"""Writes a replica of MiniMax-M2: every name, shape and dtype of the published checkpoint, without its weights.

    python -m weighbridge.testing.replica OUT
    python -m weighbridge.testing.replica OUT --layers 2 --experts 32 --vocab 8192 --data random

The first writes 96,103 tensors in 125 shards, 230,121,630,720 bytes of data, most of it holes in sparse files: only
the headers and the scales are on disk (about 80 MB). The second writes a piece of the true shape with real codes:
FP8 as block quantization of gaussian weights leaves them, and every block reaches 448.
"""
from __future__ import annotations

import argparse
import os
import random
import struct
from itertools import groupby
from math import exp, log
from pathlib import Path

from . import safetensors_writer, shapes

POOL = 1 << 16


def write_replica(
    out: Path | str, *, layers: int = 62, experts: int = 256, vocab: int = 200064, data: str = "sparse",
    shards: int | None = None, seed: int = 0, hidden: int = 3072, inter: int = 1536, heads: int = 48,
    kv_heads: int = 8, head_dim: int = 128, scales: str = "real",
) -> Path:
    """Writes the replica into the folder `out`, which must be empty or new, and returns it.

    `data`: "sparse" leaves weights, norms, router and bias as holes (they read as zero); "random" fills every byte.
    `scales`: "real" writes positive scales (log-uniform, 5e-5 to 3e-4) into the sparse replica, "zero" leaves holes.
    `shards`: two per layer and one more if None, which is 125 for the whole model. Same arguments, same bytes.
    """
    out = Path(out)
    sizes = shapes.Sizes(layers, hidden, inter, heads, kv_heads, head_dim, experts, vocab)
    runs = shapes.deal(list(shapes.tensors(sizes)), shards or 2 * layers + 1)
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise FileExistsError(f"{out}: the folder is not empty")
    if data == "random":
        from .random_data import RandomData

        fill = RandomData(seed).fill
    else:
        fill = _SparseData(seed, scales).fill
    for number, run in enumerate(runs):
        _write_shard(out / shapes.shard_name(number, len(runs)), run, fill)
    shapes.write_side_files(out, sizes, "fp8", runs)
    return out


def _write_shard(path: Path, run: list[shapes.Spec], fill) -> None:
    start, positions, size = safetensors_writer.place({spec.name: (spec.dtype, spec.shape) for spec in run})
    specs = {spec.name: spec for spec in run}
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.ftruncate(file, size)
        safetensors_writer.write_at(file, start, 0)
        fill(file, [(position, specs[name]) for name, position in positions.items()])
    finally:
        os.close(file)


class _SparseData:
    """Fills in the scales only. Scales that follow each other in a file are one write."""

    def __init__(self, seed: int, scales: str):
        self.random = random.Random(seed)
        self.real = scales == "real"
        low, high = map(log, shapes.SCALE_RANGE)
        self.pool = struct.pack(f"<{POOL}f", *(exp(self.random.uniform(low, high)) for _ in range(POOL)))

    def fill(self, file: int, placed: list[tuple[int, shapes.Spec]]) -> None:
        for is_scale, group in groupby(placed, key=lambda entry: entry[1].is_scale):
            if not (is_scale and self.real):
                continue
            group = list(group)
            safetensors_writer.write_at(file, b"".join(self.values(spec.nbytes) for _, spec in group), group[0][0])

    def values(self, nbytes: int) -> bytes:
        """A slice of the pool from a random start: different scales for every tensor, and no work per value."""
        start = 4 * self.random.randrange(POOL)
        piece = self.pool[start : start + nbytes]
        while len(piece) < nbytes:
            piece += self.pool[: nbytes - len(piece)]
        return piece


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m weighbridge.testing.replica", description=__doc__.split("\n")[0]
    )
    parser.add_argument("out", type=Path)
    for name, default in (("layers", 62), ("experts", 256), ("vocab", 200064), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    parser.add_argument("--shards", type=int, help="(default: two per layer and one more)")
    parser.add_argument("--data", choices=("sparse", "random"), default="sparse")
    parser.add_argument("--scales", choices=("real", "zero"), default="real", help="scales of the sparse replica")
    arguments = vars(parser.parse_args())
    out = write_replica(arguments.pop("out"), **arguments)
    stats = [path.stat() for path in out.iterdir()]
    apparent, on_disk = sum(s.st_size for s in stats), sum(512 * s.st_blocks for s in stats)
    print(f"{out}: {len(stats)} files, {apparent:,} bytes, {on_disk:,} on disk")


if __name__ == "__main__":
    main()

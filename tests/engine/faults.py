"""Copies of the demo checkpoint with one fault each, made by changing bytes in place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

import weighbridge
from weighbridge.testing.safetensors_writer import read_header

DEMO = Path(weighbridge.__file__).parent / "demo" / "checkpoint"
INDEX: dict[str, str] = json.loads((DEMO / "model.safetensors.index.json").read_text())["weight_map"]
Change = Callable[[bytes, list[int]], bytes]


def broken(out: Path, changes: dict[str, Change]) -> Path:
    """The demo checkpoint in `out`, with the bytes of the named tensors changed."""
    assert changes
    shutil.copytree(DEMO, out)
    for name, change in changes.items():
        path = out / INDEX[name]
        header, start = read_header(path)
        begin, end = header[name]["data_offsets"]
        with open(path, "r+b") as file:
            file.seek(start + begin)
            new = change(file.read(end - begin), header[name]["shape"])
            assert len(new) == end - begin
            file.seek(start + begin)
            file.write(new)
    return out


def stored(name: str) -> bytes:
    path = DEMO / INDEX[name]
    header, start = read_header(path)
    begin, end = header[name]["data_offsets"]
    return path.read_bytes()[start + begin : start + end]


def ones(raw: bytes, shape: list[int]) -> bytes:
    return np.ones(len(raw) // 4, np.float32).tobytes()


def interleaved(raw: bytes, shape: list[int]) -> bytes:
    """Rows of heads of 128 in GGUF's rotary order."""
    return np.frombuffer(raw, np.uint8).reshape(shape[0] // 128, 2, 64, shape[1]).transpose(0, 2, 1, 3).tobytes()


def matching(*parts: str) -> list[str]:
    return [name for name in INDEX if all(part in name for part in parts)]


def lost_bias(out: Path) -> Path:
    return broken(out, {name: lambda raw, shape: bytes(len(raw)) for name in matching("layers.2.", "e_score_correction_bias")})


def turned_q(out: Path) -> Path:
    return broken(out, {"model.layers.1.self_attn.q_proj.weight": interleaved})


def lost_scale(out: Path) -> Path:
    return broken(out, {"model.layers.2.self_attn.o_proj.weight_scale_inv": ones})


def lost_scales(out: Path) -> Path:
    return broken(out, dict.fromkeys(matching("layers.1.self_attn", "_scale_inv"), ones))


def doubled_scale(out: Path) -> Path:
    return broken(out, {"model.layers.2.self_attn.o_proj.weight_scale_inv": lambda raw, shape: (2 * np.frombuffer(raw, np.float32)).tobytes()})


def exchanged_experts(out: Path) -> Path:
    """w1 and w3 of layer 3 change places, with their scales."""
    other = {"w1": "w3", "w3": "w1"}
    changes: dict[str, Change] = {}
    for name in matching("layers.3.", ".experts."):
        matrix = name.split(".")[-2]
        if matrix in other:
            data = stored(name.replace(f".{matrix}.", f".{other[matrix]}."))
            changes[name] = lambda raw, shape, data=data: data
    return broken(out, changes)


def rounded_router(out: Path) -> Path:
    return broken(out, {"model.layers.1.block_sparse_moe.gate.weight": lambda raw, shape: (np.frombuffer(raw, np.uint32) & 0xFFFF0000).astype(np.uint32).tobytes()})

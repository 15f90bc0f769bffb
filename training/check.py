"""Checks a checkpoint that quantize.py wrote: names, index, blocks, codes, nearest rounding.

Usage: python check.py RUN CHECKPOINT
"""
import json
import struct
import sys
from pathlib import Path

import torch
from quantize import original
from safetensors.torch import load_file


def e4m3_values():
    """The value of every code, from the definition of the format."""
    values = []
    for code in range(256):
        sign, exponent, mantissa = code >> 7, code >> 3 & 15, code & 7
        size = mantissa / 8 * 2.0 ** -6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        values.append(float("nan") if code & 127 == 127 else (-1) ** sign * size)
    return torch.tensor(values, dtype=torch.float64)


def read_index(folder):
    """Loads all tensors; checks that the index, the headers and the sizes agree."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    tensors, found, size = {}, {}, 0
    for path in sorted(folder.glob("*.safetensors")):
        (header_size,) = struct.unpack("<Q", path.read_bytes()[:8])
        header = json.loads(path.read_bytes()[8:8 + header_size])
        assert header_size % 8 == 0 and header.pop("__metadata__") == {"format": "pt"}
        data = max(entry["data_offsets"][1] for entry in header.values())
        assert path.stat().st_size == 8 + header_size + data
        found.update({name: path.name for name in header})
        size += data
        tensors.update(load_file(path))
    assert found == index["weight_map"] and size == index["metadata"]["total_size"]
    assert len(found) == len(tensors)
    return tensors, found


def check_weight(name, weight, codes, scale, values):
    """Largest code in every block, no NaN, right scale, every code one of the nearest, ties to even."""
    assert codes.dtype == torch.float8_e4m3fn and scale.dtype == torch.float32, name
    rows, columns = weight.shape
    assert tuple(scale.shape) == (-(-rows // 128), -(-columns // 128)), name
    raw = codes.view(torch.uint8).long()
    assert not (raw & 127).eq(127).any(), name
    blocks = (raw & 127).view(rows // 128, 128, columns // 128, 128)
    assert blocks.amax(dim=(1, 3)).eq(0x7E).all(), name
    largest = weight.float().abs().view(rows // 128, 128, columns // 128, 128).amax(dim=(1, 3))
    assert torch.equal(scale, largest / 448), name
    spread = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)
    exact = (weight.float() / spread).double()
    error = (exact - values[raw]).abs()
    size = raw & 127
    up, down = (size + 1).clamp(max=126), (size - 1).clamp(min=0)
    for other in (up, down):
        moved = (exact.abs() - values[other]).abs()
        assert (error <= moved).all(), name
        assert not (error.eq(moved) & other.ne(size) & size.bitwise_and(1).bool()).any(), name
    assert (values[raw].sign() * exact.sign() >= 0).all(), name


def main():
    run, folder = Path(sys.argv[1]), Path(sys.argv[2])
    tensors, where = read_index(folder)
    values, weights, quantized = e4m3_values(), original(run), 0
    for name, weight in weights.items():
        scale = tensors.get(name + "_scale_inv")
        if scale is None:
            assert tensors[name].dtype == weight.dtype and torch.equal(tensors[name], weight), name
        else:
            check_weight(name, weight, tensors[name], scale, values)
            quantized += 1
    assert quantized == 4 * (4 + 3 * 8) and len(tensors) == len(weights) + quantized
    biases = [tensors[f"model.layers.{i}.block_sparse_moe.e_score_correction_bias"] for i in range(4)]
    assert len(biases) == 4 and all(b.dtype == torch.float32 and b.ne(0).any() for b in biases)
    for layer in range(4):
        shards = sorted({s[6:11] for name, s in where.items() if name.startswith(f"model.layers.{layer}.")})
        print(f"layer {layer} in shards {shards}, bias {biases[layer].tolist()}")
    size = sum(p.stat().st_size for p in folder.iterdir())
    assert size <= 12_000_000
    print(f"{len(tensors)} tensors, {quantized} FP8; {size} bytes; all checks passed")


if __name__ == "__main__":
    main()

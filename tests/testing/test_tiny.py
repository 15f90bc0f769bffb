"""The tiny checkpoints have the published layout, and their FP8 is the block quantization of their BF16."""
import json
from math import prod

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from weighbridge.testing import shapes
from weighbridge.testing.quantize import quantize_blocks
from weighbridge.testing.safetensors_writer import read_header, write_file
from weighbridge.testing.tiny import EVEN, RAGGED, original, write_tiny

KINDS = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "BF16": ml_dtypes.bfloat16, "F32": np.float32}
PRESETS = pytest.mark.parametrize("preset", [EVEN, RAGGED], ids=["even", "ragged"])


def load(folder) -> dict[str, np.ndarray]:
    """Every tensor as float32, and nothing but what the index names."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    tensors = {}
    for path in folder.glob("*.safetensors"):
        header, start = read_header(path)
        del header["__metadata__"]
        for name, entry in header.items():
            assert index[name] == path.name
            kind, offset = KINDS[entry["dtype"]], start + entry["data_offsets"][0]
            values = np.fromfile(path, kind, prod(entry["shape"]), offset=offset)
            tensors[name] = values.reshape(entry["shape"]).astype(np.float32)
    assert set(tensors) == set(index)
    return tensors


@PRESETS
@pytest.mark.parametrize("scale_dtype", ["F32", "BF16"])
def test_codes_times_scales_are_the_weights(tmp_path, preset, scale_dtype):
    tensors = load(write_tiny(tmp_path, **preset, scale_dtype=scale_dtype))
    weights = [name for name in tensors if name + "_scale_inv" in tensors]
    assert len(weights) == preset["layers"] * (4 + 3 * preset["experts"])
    for name in weights:
        codes, scales = tensors[name], tensors[name + "_scale_inv"]
        assert scales.shape == shapes.grid(codes.shape)
        scale = np.kron(scales, np.ones((128, 128), np.float32))[: codes.shape[0], : codes.shape[1]]
        wanted = original(shapes.Spec(name, "F8_E4M3", codes.shape), 0)
        # Half a step of a 3-bit mantissa; below 2^-6 the step stays 2^-9. A BF16 scale may cut 2^-8 off the top.
        bound = np.maximum(np.abs(wanted) * 2.0**-4, scale * 2.0**-10) * 1.001
        assert (np.abs(codes * scale - wanted) <= bound).all(), name


@PRESETS
def test_every_block_reaches_448_also_the_ragged_ones(tmp_path, preset):
    tensors = load(write_tiny(tmp_path, **preset))
    for name, codes in tensors.items():
        if name + "_scale_inv" in tensors:
            for row in range(0, codes.shape[0], 128):
                for column in range(0, codes.shape[1], 128):
                    assert np.abs(codes[row : row + 128, column : column + 128]).max() == 448, name


@PRESETS
def test_bf16_has_the_same_weights_and_no_scales(tmp_path, preset):
    fp8, bf16 = write_tiny(tmp_path / "fp8", **preset), write_tiny(tmp_path / "bf16", **preset, encoding="bf16")
    with_scales, without = load(fp8), load(bf16)
    assert set(without) == {name for name in with_scales if not name.endswith("_scale_inv")}
    assert "quantization_config" not in json.loads((bf16 / "config.json").read_text())
    for name, values in without.items():
        if name + "_scale_inv" not in with_scales:
            assert np.array_equal(values, with_scales[name]), name


def test_presets_are_even_and_ragged():
    def widths(preset):
        sizes = shapes.Sizes(**preset)
        return {size for spec in shapes.tensors(sizes) if spec.dtype == "F8_E4M3" for size in spec.shape}

    assert all(width % 128 == 0 for width in widths(EVEN))
    assert all(width % 128 for width in widths(RAGGED))


def test_the_safetensors_library_reads_them(tmp_path):
    folder = write_tiny(tmp_path, **RAGGED, shards=5)
    assert [path.name for path in sorted(folder.glob("*.safetensors"))] == [shapes.shard_name(n, 5) for n in range(5)]
    names = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "np") as file:
            assert file.metadata() == {"format": "pt"}
            names += file.keys()
    assert len(names) == len(set(names)) == 3 + 2 * (8 + 2 + 4 + 2 * 3 * 4)


def test_same_seed_same_bytes(tmp_path):
    one, two, other = (write_tiny(tmp_path / name, **RAGGED, seed=seed) for name, seed in zip("abc", (3, 3, 4)))
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()
    shard = shapes.shard_name(0, 2)
    assert (one / shard).read_bytes() != (other / shard).read_bytes()


def test_config_changes(tmp_path):
    folder = write_tiny(tmp_path, config={"rms_norm_eps": 0.5})
    config = json.loads((folder / "config.json").read_text())
    assert (config["rms_norm_eps"], config["hidden_size"], config["num_local_experts"]) == (0.5, 256, 8)
    assert config["quantization_config"]["quant_method"] == "fp8"


def test_a_block_of_zeros_has_the_scale_one():
    weight = np.zeros((130, 100), np.float32)
    weight[129, 99] = -7
    codes, scales = quantize_blocks(weight)
    assert scales.tolist() == [[1.0], [7 / np.float32(448)]]
    assert codes[129, 99] == 0xFE and not codes[:129].any()


def test_the_writer_refuses_data_of_another_length(tmp_path):
    with pytest.raises(ValueError, match="the file ends at"):
        write_file(tmp_path / "x.safetensors", {"a": ("F32", [2], bytes(7))})
    with pytest.raises(ValueError, match="the data before b ends at"):
        write_file(tmp_path / "x.safetensors", {"a": ("F32", [2], bytes(7)), "b": ("F32", [2], bytes(8))})

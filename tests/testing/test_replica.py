"""The replica has the counts, bytes and headers of the published MiniMax-M2."""
import json
from collections import Counter
from math import prod
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from weighbridge.testing import replica, shapes
from weighbridge.testing.safetensors_writer import DTYPE_BYTES, read_header

SMALL = {"layers": 2, "experts": 4, "vocab": 256, "hidden": 256, "inter": 128, "heads": 6, "kv_heads": 2}
LAYER_0 = "model.layers.0.block_sparse_moe.experts.0."


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    return replica.write_replica(tmp_path_factory.mktemp("replica") / "m2")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return replica.write_replica(tmp_path_factory.mktemp("replica") / "small", data="random", **SMALL)


def headers(folder: Path) -> dict[str, dict]:
    """{file: {tensor: entry}}"""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        found[path.name] = read_header(path)[0]
        del found[path.name]["__metadata__"]
    return found


def test_full_has_the_published_counts_and_bytes(full):
    entries = {name: entry for header in headers(full).values() for name, entry in header.items()}
    assert len(entries) == 96_103
    kinds = Counter((entry["dtype"], name.endswith("weight_scale_inv")) for name, entry in entries.items())
    assert kinds == {("F8_E4M3", False): 47_864, ("F32", True): 47_864, ("F32", False): 124, ("BF16", False): 251}
    sizes = {name: DTYPE_BYTES[entry["dtype"]] * prod(entry["shape"]) for name, entry in entries.items()}
    assert sum(sizes.values()) == 230_121_630_720
    assert all(e["data_offsets"][1] - e["data_offsets"][0] == sizes[name] for name, e in entries.items())
    values = sum(prod(entry["shape"]) for name, entry in entries.items() if not name.endswith("weight_scale_inv"))
    assert values == 228_689_764_864


def test_full_has_the_published_shapes(full):
    index = json.loads((full / "model.safetensors.index.json").read_text())["weight_map"]
    expected = {
        LAYER_0 + "w1.weight": ("F8_E4M3", [1536, 3072]), LAYER_0 + "w1.weight_scale_inv": ("F32", [12, 24]),
        LAYER_0 + "w2.weight": ("F8_E4M3", [3072, 1536]), LAYER_0 + "w2.weight_scale_inv": ("F32", [24, 12]),
        "model.layers.61.self_attn.q_proj.weight": ("F8_E4M3", [6144, 3072]),
        "model.layers.61.self_attn.k_proj.weight_scale_inv": ("F32", [8, 24]),
        "model.layers.61.self_attn.o_proj.weight_scale_inv": ("F32", [24, 48]),
        "model.layers.7.block_sparse_moe.gate.weight": ("F32", [256, 3072]),
        "model.layers.7.block_sparse_moe.e_score_correction_bias": ("F32", [256]),
        "model.layers.7.self_attn.q_norm.weight": ("BF16", [6144]), "lm_head.weight": ("BF16", [200064, 3072]),
    }
    for name, (dtype, shape) in expected.items():
        entry = read_header(full / index[name])[0][name]
        assert (entry["dtype"], entry["shape"]) == (dtype, shape), name


def test_full_is_spread_over_shards_as_published(full):
    found = headers(full)
    assert list(found) == [f"model-{number:05d}-of-00130.safetensors" for number in range(125)]
    index = json.loads((full / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 230_121_630_720
    assert index["weight_map"] == {name: file for file, header in found.items() for name in header}
    shard_of = index["weight_map"]
    assert shard_of["model.embed_tokens.weight"].startswith("model-00000")
    assert shard_of["lm_head.weight"].startswith("model-00124")
    assert shard_of[LAYER_0 + "w1.weight"] == shard_of[LAYER_0 + "w3.weight"] != shard_of[LAYER_0 + "w2.weight"]
    scales = [name for name in shard_of if name.endswith("_scale_inv")]
    assert any(shard_of[name] != shard_of[name.removesuffix("_scale_inv")] for name in scales)


def test_full_is_sparse_and_its_scales_are_positive(full):
    stats = [path.stat() for path in full.iterdir()]
    assert sum(512 * stat.st_blocks for stat in stats) < 150_000_000
    assert sum(stat.st_size for stat in stats) > 230_121_630_720
    for path in list(full.glob("*.safetensors"))[::25]:
        header, start = read_header(path)
        for name, entry in header.items():
            if name.endswith("weight_scale_inv"):
                count = prod(entry["shape"])
                values = np.fromfile(path, "<f4", count, offset=start + entry["data_offsets"][0])
                assert 4.9e-5 < values.min() < values.max() < 3.1e-4, name


def test_full_config_is_the_published_one():
    published = json.loads((Path(shapes.__file__).parent / "minimax_m2_config.json").read_text())
    assert shapes.config(shapes.Sizes()) == published
    assert published["quantization_config"]["weight_block_size"] == [128, 128]


def test_the_safetensors_library_reads_the_piece(small):
    index = json.loads((small / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(index) == 3 + 2 * (8 + 2 + 4 + 2 * 3 * 4)
    for name in set(index.values()):
        with safe_open(small / name, "np") as file:
            assert set(file.keys()) == {tensor for tensor, shard in index.items() if shard == name}
    config = json.loads((small / "config.json").read_text())
    assert (config["num_hidden_layers"], config["num_local_experts"], config["vocab_size"]) == (2, 4, 256)


def test_every_block_of_the_piece_reaches_448(small):
    for path in small.glob("*.safetensors"):
        header, start = read_header(path)
        for name, entry in header.items():
            if entry.get("dtype") == "F8_E4M3":
                (rows, columns), offset = entry["shape"], start + entry["data_offsets"][0]
                codes = np.fromfile(path, np.uint8, rows * columns, offset=offset) & 0x7F
                largest = codes.reshape(rows // 128, 128, columns // 128, 128).max(axis=(1, 3))
                assert (largest == 0x7E).all(), name


def test_same_arguments_same_bytes(small, tmp_path):
    again = replica.write_replica(tmp_path / "again", data="random", **SMALL)
    other = replica.write_replica(tmp_path / "other", data="random", seed=1, **SMALL)
    names = sorted(path.name for path in small.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert all((small / name).read_bytes() == (again / name).read_bytes() for name in names)
    shards = [name for name in names if name.endswith(".safetensors")]
    assert all((small / name).read_bytes() != (other / name).read_bytes() for name in shards)


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        replica.write_replica(tmp_path, **SMALL)

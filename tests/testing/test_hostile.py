"""Each fault breaks a checkpoint in the way that its name says, and in no other."""
import json
import shutil

import pytest
from safetensors import SafetensorError, safe_open

from weighbridge.testing.hostile import FAULTS, INDEX
from weighbridge.testing.safetensors_writer import read_header
from weighbridge.testing.tiny import EVEN, RAGGED, write_tiny

# What the safetensors library itself refuses. It keeps one of two equal names, and it does not know the rest.
REFUSED = {
    "header_longer_than_file", "header_length_huge", "header_not_json", "header_not_an_object",
    "header_deeply_nested", "offsets_overlap", "offsets_out_of_range", "offsets_negative", "offsets_inverted",
    "offsets_gap", "shape_negative", "size_shape_mismatch", "unknown_dtype", "shard_empty", "shard_truncated",
    "shard_too_long", "lfs_pointer",
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return {"even": write_tiny(folder / "even", **EVEN), "ragged": write_tiny(folder / "ragged", **RAGGED)}


@pytest.fixture(params=["even", "ragged"])
def good(request, originals, tmp_path):
    return shutil.copytree(originals[request.param], tmp_path / "checkpoint")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder):
    """Names in the shards, with repetition, and names in the index."""
    found = [name for path in folder.glob("*.safetensors") for name in read_header(path)[0] if name != "__metadata__"]
    return sorted(found), sorted(json.loads((folder / INDEX).read_text())["weight_map"])


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_the_folder_and_says_what_it_does(good, name):
    before = contents(good)
    FAULTS[name](good)
    assert contents(good) != before
    assert FAULTS[name].__doc__.strip().endswith(".")


@pytest.mark.parametrize("name", FAULTS)
def test_the_safetensors_library_refuses_faults_of_one_file(good, name):
    FAULTS[name](good)
    refused = False
    for path in good.glob("*.safetensors"):
        try:
            with safe_open(path, "np") as file:
                file.keys()
        except (SafetensorError, OSError, ValueError, OverflowError):
            refused = True
    assert refused == (name in REFUSED)


@pytest.mark.parametrize("name, in_shards, in_index", [
    ("missing_tensor", -6, -6), ("surplus_tensor", 1, 1), ("weight_without_scale", -1, -1),
    ("scale_without_weight", -1, -1), ("index_names_absent_tensor", 0, 1), ("shard_has_unindexed_tensor", 0, -1),
    ("duplicate_name_across_shards", 1, 0), ("scale_nan", 0, 0), ("index_path_dotdot", 0, 0),
])
def test_names_that_come_and_go(good, name, in_shards, in_index):
    shards, index = names(good)
    FAULTS[name](good)
    now = names(good)
    assert (len(now[0]) - len(shards), len(now[1]) - len(index)) == (in_shards, in_index)


@pytest.mark.parametrize("name", ["index_path_dotdot", "index_path_absolute"])
def test_a_path_that_leaves_the_folder_still_leads_to_the_file(good, name):
    FAULTS[name](good)
    files = set(json.loads((good / INDEX).read_text())["weight_map"].values())
    assert any("/" in file for file in files) and all((good / file).exists() for file in files)

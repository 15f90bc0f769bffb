"""A checkpoint as it lies on disk: shards, index, ranks, and where each tensor is."""

from __future__ import annotations

import pytest
from safetensors.numpy import load_file, save_file

import weighbridge.api as wb
from tests.plan.tools import DEMO, convert, read_folder
from weighbridge.checkpoint.header import read_header
from weighbridge.errors import Refused, WeighbridgeError
from weighbridge.plan.bind import bind
from weighbridge.testing.tiny import EVEN, write_tiny

SMALL = EVEN | {"experts": 2, "layers": 1}


@pytest.fixture
def good(tmp_path):
    return write_tiny(tmp_path / "src", **SMALL)


def test_every_tensor_is_where_its_header_says(good):
    tensors = read_folder(good)
    checkpoint = wb.open(good).checkpoint
    assert checkpoint.tensors.keys() == tensors.keys() and checkpoint.problems == []
    for name, tensor in checkpoint.tensors.items():
        data = (good / tensor.file).read_bytes()[tensor.start : tensor.start + tensor.nbytes]
        assert data == tensors[name].tobytes() and tensor.shape == tensors[name].shape


def test_one_file_without_an_index_is_a_checkpoint(good, tmp_path):
    """As the safetensors library writes it, and with a header that it padded itself."""
    import numpy as np

    place = tmp_path / "one"
    place.mkdir()
    plain = {n: t.astype(np.float32) for n, t in read_folder(write_tiny(tmp_path / "bf16", **SMALL, encoding="bf16")).items()}
    save_file(plain, place / "model.safetensors")
    (place / "config.json").write_bytes((tmp_path / "bf16" / "config.json").read_bytes())
    model = wb.open(place)
    assert model.source.layout == "hf-bf16" and model.source.problems == []
    out = convert(place, tmp_path / "out", "hf-bf16")
    assert read_folder(out).keys() == load_file(place / "model.safetensors").keys()


def test_a_file_inside_a_folder_stands_for_the_folder(good):
    file = next(good.glob("*.safetensors"))
    assert wb.open(file).checkpoint.digest == wb.open(good).checkpoint.digest


def test_links_are_followed_as_the_hub_cache_needs_it(good, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in good.iterdir():
        (linked / path.name).symlink_to(path)
    assert wb.open(linked).checkpoint.digest == wb.open(good).checkpoint.digest


def layout_of(folder):
    return bind(wb.open(folder).checkpoint).layout


def test_layouts_are_known_by_their_names(good, tmp_path):
    found = {layout_of(good)}
    for layout, options in (("hf-bf16", {}), ("neuron", {}), ("neuron", {"shards": True, "tp": 2})):
        folder = convert(good, tmp_path / str(len(found)), layout, **options)
        found.add(layout_of(folder))
    assert found == {"hf-fp8", "hf-bf16", "neuron", "neuron-shards"}


def test_the_digest_changes_with_config_header_and_size(good):
    first = wb.open(good).checkpoint.digest
    config = good / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 512', '"vocab_size": 1024'))
    assert wb.open(good).checkpoint.digest != first


@pytest.mark.parametrize("missing, says", [("rank", "3 rank files"), ("config", "tp_degree nothing")])
def test_rank_files_must_be_all_there(good, missing, says, tmp_path):
    out = convert(good, tmp_path / "out", "neuron", shards=True, tp=4, moe_tp=2, moe_ep=2)
    (out / ("weights/tp3_sharded_checkpoint.safetensors" if missing == "rank" else "neuron_config.json")).unlink()
    with pytest.raises(WeighbridgeError) as caught:
        convert(out, tmp_path / "back", "hf-fp8")
    assert says in str(caught.value) and not (tmp_path / "back").exists()


def test_a_folder_without_weights_and_no_folder_at_all(tmp_path):
    with pytest.raises(Refused) as caught:
        wb.open(tmp_path)
    assert caught.value.first.code == "no-weights"
    with pytest.raises(WeighbridgeError) as gone:
        wb.open(tmp_path / "nothing")
    assert gone.value.first.code == "not-found" and str(tmp_path / "nothing") in str(gone.value)


def test_a_header_is_read_in_at_most_two_reads():
    """Remote headers cost a request for each read."""
    file = next(DEMO.glob("*.safetensors"))
    data, reads = file.read_bytes(), []

    def read(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return data[offset : offset + length]

    header, problems = read_header(file.name, len(data), read)
    assert header is not None and not problems and len(reads) <= 2
    assert sum(length for _, length in reads) < len(data) // 10

"""Configurations that nobody's trainer wrote."""

from __future__ import annotations

import shutil

import pytest

import weighbridge.api as wb
from tests.plan.tools import load_json
from weighbridge.errors import WeighbridgeError
from weighbridge.testing.tiny import EVEN, write_tiny

SMALL = EVEN | {"experts": 2, "layers": 1}
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
         "num_local_experts", "num_experts_per_tok", "vocab_size")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("original") / "src", **SMALL)


@pytest.fixture
def good(original, tmp_path):
    return shutil.copytree(original, tmp_path / "checkpoint")


def change(folder, **keys) -> None:
    import json

    config = load_json(folder / "config.json") | keys
    (folder / "config.json").write_text(json.dumps(config))


def refused(source, out, layout="hf-bf16", **options) -> str:
    with pytest.raises(WeighbridgeError) as caught:
        wb.open(source).convert(out, layout, **options)
    assert caught.value.exit_code == 2 and not out.exists()
    return str(caught.value)


@pytest.mark.parametrize("value", [-1, 0, 1 << 40, 1 << 63, 1.5, "256", None, True, [256], {}])
@pytest.mark.parametrize("key", SIZES)
def test_sizes_that_are_none(good, key, value, tmp_path):
    change(good, **{key: value})
    text = refused(good, tmp_path / "out")
    assert f"config.json: {key}" in text and (value is None or repr(value) in text)


@pytest.mark.parametrize("keys, says", [
    ({"num_attention_heads": 7}, "7 query heads"), ({"num_experts_per_tok": 3}, "3 experts per token"),
    ({"tie_word_embeddings": True}, "tie_word_embeddings"), ({"shared_intermediate_size": 64}, "shared"),
    ({"model_type": "llama"}, "llama"), ({"model_type": ["minimax_m2"]}, "model_type"), ({"model_type": None}, "model_type"),
])
def test_models_that_this_one_is_not(good, keys, says, tmp_path):
    change(good, **keys)
    assert says in refused(good, tmp_path / "out")


@pytest.mark.parametrize("keys, says", [
    ({"hidden_size": 384}, "384"), ({"num_hidden_layers": 2}, "layers.1."), ({"num_local_experts": 4}, "experts.3."),
    ({"num_local_experts": 1, "num_experts_per_tok": 1}, "experts.1."), ({"vocab_size": 513}, "513"),
])
def test_sizes_of_another_model(good, keys, says, tmp_path):
    change(good, **keys)
    assert says in refused(good, tmp_path / "out")


@pytest.mark.parametrize("claim", [
    None, [], "fp8", {}, {"weight_block_size": None}, {"weight_block_size": [128]}, {"weight_block_size": [0, 128]},
    {"weight_block_size": [-128, 128]}, {"weight_block_size": ["128", "128"]}, {"weight_block_size": [1 << 62, 128]},
    {"weight_block_size": 128},
])
def test_a_claim_without_a_block_size_is_not_guessed_from_shapes(good, claim, tmp_path):
    change(good, quantization_config=claim)
    text = refused(good, tmp_path / "out")
    assert "weight_block_size" in text
    wb.open(good).convert(tmp_path / "out", "hf-bf16", block=(128, 128))


def test_a_block_size_that_is_not_that_of_the_scales(good, tmp_path):
    change(good, quantization_config={"quant_method": "fp8", "weight_block_size": [64, 128]})
    text = refused(good, tmp_path / "out")
    assert "[6, 2]" in text and "[12, 2]" in text and "64x128" in text


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{", b'"x"', b"\xff\xfe{}", b"\0" * 64, b"{}"])
def test_a_config_that_is_no_json_object(good, text, tmp_path):
    (good / "config.json").write_bytes(text)
    assert "config.json" in refused(good, tmp_path / "out")


@pytest.mark.parametrize("depth", [200, 900, 100_000])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors.index.json", "neuron_config.json", "weighbridge.json"])
def test_json_of_any_depth_is_read_or_refused(good, file, depth, tmp_path):
    """It never ends in a RecursionError or in a crash of the process."""
    path = good / file
    body = path.read_text().rstrip()[1:-1] if path.exists() else '"a": 1'
    path.write_text('{"deep": ' + "[" * depth + "]" * depth + "," + body + "}")
    try:
        wb.open(good).convert(tmp_path / "out", "hf-bf16")
    except WeighbridgeError as error:
        assert error.exit_code == 2 and not (tmp_path / "out").exists()
        assert file in str(error)


def test_whole_numbers_of_any_size_in_keys_that_nobody_reads(good, tmp_path):
    change(good, rope_theta=10**30, seed=-(1 << 70))
    try:
        wb.open(good).convert(tmp_path / "out", "hf-bf16")
    except WeighbridgeError as error:
        assert "config.json" in str(error)


@pytest.mark.parametrize("value", ["many", [4096], {}, -5, 1 << 60, 1.5])
def test_a_context_length_that_is_none(good, value, tmp_path):
    """Read for neuron_config.json only; it must not fail after the weights were written."""
    change(good, max_position_embeddings=value)
    try:
        wb.open(good).convert(tmp_path / "out", "neuron")
    except WeighbridgeError:
        assert not (tmp_path / "out").exists()
    else:
        assert 0 < load_json(tmp_path / "out" / "neuron_config.json")["seq_len"] <= 4096


@pytest.mark.parametrize("sidecar", [{"options": []}, {"options": {"block": ["a", 1]}}, {"hops": 5}, {"options": {"scale_rule": []}},
                                     {"hops": {"a": 1}}, {"options": {"attention": {}}}])
def test_a_manifest_that_someone_else_wrote(good, sidecar, tmp_path):
    import json

    (good / "weighbridge.json").write_text(json.dumps(sidecar))
    try:
        wb.open(good).convert(tmp_path / "out", "hf-bf16")
    except WeighbridgeError:
        assert not (tmp_path / "out").exists()


def test_names_in_the_index_that_are_not_files(good, tmp_path):
    import json

    for file in ("", "a\0b.safetensors", "config.json", "sub/../../x.safetensors", "..\\x.safetensors", "/etc/passwd"):
        (good / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
        assert "model.safetensors.index.json" in refused(good, tmp_path / "out")
    for index in ({"weight_map": []}, {"weight_map": {"a": 1}}, {}):
        (good / "model.safetensors.index.json").write_text(json.dumps(index))
        assert "weight_map" in refused(good, tmp_path / "out")

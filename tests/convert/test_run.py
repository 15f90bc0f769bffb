"""What a conversion leaves behind: the same bytes for any number of threads, and files that tell the truth."""

from __future__ import annotations

import os
import threading
import time

import pytest
from safetensors import safe_open

import weighbridge.api as wb
from tests.plan.tools import DEMO, all_bytes, convert, load_json, read_folder
from weighbridge import __version__
from weighbridge.testing.tiny import EVEN, write_tiny

INDEX = "model.safetensors.index.json"
WAYS = {"hf-bf16": {}, "hf-fp8": {"scale_dtype": "BF16"}, "neuron": {}, "exact": {"attention": "exact", "tp": 4},
        "shards": {"shards": True, "tp": 4}}
# Settings that NeuronConfig, MoENeuronConfig and their parts know, as NxD Inference spells them.
KNOWN = {
    "tp_degree", "moe_tp_degree", "moe_ep_degree", "ep_degree", "batch_size", "ctx_batch_size", "tkg_batch_size",
    "is_continuous_batching", "seq_len", "max_context_length", "torch_dtype", "glu_mlp", "fused_qkv", "logical_nc_config",
    "quantized", "quantized_checkpoints_path", "quantization_type", "quantization_dtype", "quantization_block_axis",
    "quantization_block_size", "quantized_mlp_kernel_enabled", "modules_to_not_convert", "blockwise_matmul_config",
    "router_config", "save_sharded_checkpoint", "skip_sharding",
}
SKIPPED = {"published": ["lm_head", "o_proj"], "bf16": ["lm_head", "self_attn"], "row": ["lm_head"], "exact": ["lm_head"]}


def layout_of(way: str) -> str:
    return "neuron" if way in ("exact", "shards") else way


@pytest.fixture(scope="module")
def even(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("even") / "src", **EVEN)


@pytest.mark.parametrize("way", WAYS)
def test_one_thread_and_three_write_the_same_bytes(even, way, tmp_path, monkeypatch):
    monkeypatch.setattr("weighbridge.convert.shape.SLAB", 1 << 16)  # many slabs for every file
    written = []
    for threads in ("1", "3"):
        monkeypatch.setenv("WEIGHBRIDGE_THREADS", threads)
        written.append(all_bytes(convert(even, tmp_path / threads, layout_of(way), **WAYS[way])))
    assert written[0] == written[1]


@pytest.mark.parametrize("way", WAYS)
def test_the_size_of_a_slab_changes_no_byte(even, way, tmp_path, monkeypatch):
    whole = all_bytes(convert(even, tmp_path / "a", layout_of(way), **WAYS[way]))
    monkeypatch.setattr("weighbridge.convert.shape.SLAB", 1)
    small = all_bytes(convert(even, tmp_path / "b", layout_of(way), **WAYS[way]))
    del whole["weighbridge.json"], small["weighbridge.json"]  # a part of the values is measured, which part hangs on slabs
    assert whole == small


@pytest.mark.parametrize("way", WAYS)
def test_the_safetensors_library_reads_every_file(even, way, tmp_path):
    out = convert(even, tmp_path / "out", layout_of(way), **WAYS[way])
    for path in out.rglob("*.safetensors"):
        with safe_open(path, "np") as file:
            assert file.keys() and file.metadata() == {"format": "pt"}


def test_the_index_names_every_tensor_and_its_file(even, tmp_path):
    out = convert(even, tmp_path / "out", "neuron")
    index = load_json(out / INDEX)
    assert sorted(index["weight_map"]) == sorted(read_folder(out))
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in read_folder(out).values())
    for name, file in index["weight_map"].items():
        with safe_open(out / file, "np") as opened:
            assert name in set(opened.keys())


def test_config_tells_what_the_files_hold(even, tmp_path):
    claim = load_json(even / "config.json")["quantization_config"]
    copied = load_json(convert(even, tmp_path / "a", "hf-fp8") / "config.json")
    assert copied["quantization_config"] == claim
    for number, layout in enumerate(("hf-bf16", "neuron")):
        config = load_json(convert(even, tmp_path / str(number), layout) / "config.json")
        assert "quantization_config" not in config and config["torch_dtype"] == "bfloat16"
    back = load_json(convert(tmp_path / "0", tmp_path / "b", "hf-fp8", block=(64, 128)) / "config.json")
    assert back["quantization_config"]["weight_block_size"] == [64, 128]
    assert back["quantization_config"]["quant_method"] == "fp8"


def test_the_manifest_names_source_layout_and_losses(tmp_path):
    out = convert(DEMO, tmp_path / "out", "neuron", tp=4)
    manifest = load_json(out / "weighbridge.json")
    assert (manifest["schema"], manifest["version"], manifest["layout"]) == ("weighbridge.manifest/1", __version__, "neuron")
    source = manifest["source"]
    assert (source["name"], source["layout"]) == ("checkpoint", "hf-fp8")
    assert source["digest"] == wb.open(DEMO).checkpoint.digest
    assert {f: s["bytes"] for f, s in source["files"].items()} == {p.name: p.stat().st_size for p in DEMO.glob("*.safetensors")}
    assert {f: s["bytes"] for f, s in manifest["files"].items()} == {p.name: p.stat().st_size for p in out.iterdir() if p.name != "weighbridge.json"}
    assert manifest["options"]["tp"] == 4 and manifest["allowed"] == []
    assert manifest["converted_scales"] == len([n for n in read_folder(DEMO) if n.endswith("_scale_inv")])
    losses = {row["step"]: row for row in manifest["lossy"]}
    assert set(losses) == {"halve", "requantize", "decode"}
    assert losses["halve"]["sqnr_db"] > 120 and 28 < losses["requantize"]["sqnr_db"] < 40
    assert losses["decode"]["values"] == 4 * 256 * 768
    assert str(tmp_path) not in (out / "weighbridge.json").read_text()
    assert not (out / ".weighbridge").exists() and not list(out.rglob("*.partial"))


def test_the_count_of_inexact_codes_is_the_count_of_odd_small_codes(tmp_path):
    from tests.plan.tools import odd_small

    out = convert(DEMO, tmp_path / "out", "neuron", attention="exact", tp=4)
    (row,) = load_json(out / "weighbridge.json")["lossy"]
    codes = [t for t in read_folder(DEMO).values() if t.itemsize == 1]
    assert row["inexact"] == sum(int(odd_small(c).sum()) for c in codes) > 0
    assert row["values"] == sum(c.size for c in codes)


def test_the_result_is_the_contract(even, tmp_path):
    document = wb.open(even).convert(tmp_path / "out", "neuron", attention="exact", tp=4).document()
    assert {"from", "to", "options", "pieces", "converted_scales", "bytes_read", "bytes_written", "peak_memory_bytes", "seconds",
            "lossy", "files"} <= set(document)
    assert (document["from"], document["to"]) == ("hf-fp8", "neuron")
    assert {"step", "count", "bound"} <= set(document["lossy"][0])
    assert sorted(document["files"]) == sorted(p.name for p in (tmp_path / "out").glob("*.safetensors"))


def test_progress_ends_at_the_whole(even, tmp_path):
    seen: list[tuple[int, int]] = []
    wb.open(even).convert(tmp_path / "out", "hf-bf16", progress=lambda done, total: seen.append((done, total)))
    dones, totals = zip(*seen, strict=True)
    assert list(dones) == sorted(dones) and len(set(totals)) == 1
    assert dones[-1] <= totals[0] and dones[-1] > 0.9 * totals[0]


def test_what_comes_beside_the_weights_comes_along(tmp_path):
    out = convert(DEMO, tmp_path / "out", "hf-bf16")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja", "NOTICE"):
        assert (out / name).read_bytes() == (DEMO / name).read_bytes()
    manifest = load_json(out / "weighbridge.json")
    assert "heldout.txt" in manifest["dropped"] and "tokenizer.json" in manifest["copied"]


def modules(config: dict) -> dict[str, str]:
    """Every module that NxD may quantize, by its path in the traced model, and the file-stage stem of its weight."""
    found = {"lm_head": "lm_head"}
    for layer in range(config["num_hidden_layers"]):
        own = f"layers.{layer}."
        found |= {f"{own}self_attn.qkv_proj.{p}_proj": f"{own}self_attn.{p}_proj" for p in "qkv"}
        found[f"{own}self_attn.o_proj.o_proj"] = f"{own}self_attn.o_proj"
        for name in ("gate_up_proj", "down_proj"):
            path = f"{own}block_sparse_moe.expert_mlps.mlp_op.{name}"
            found[path] = path
    return found


@pytest.mark.parametrize("attention", SKIPPED)
@pytest.mark.parametrize("shards", [False, True])
def test_neuron_config_is_of_settings_that_the_reader_has(even, attention, shards, tmp_path):
    out = convert(even, tmp_path / "out", "neuron", attention=attention, tp=4, shards=shards)
    settings = load_json(out / "neuron_config.json")
    assert set(settings) - {"env"} <= KNOWN
    assert settings["env"] == {"XLA_HANDLE_SPECIAL_SCALAR": "1", "UNSAFE_FP8FNCAST": "1"}
    assert settings["quantized"] is True and settings["quantization_dtype"] == "f8e4m3"
    assert settings["quantization_type"] == "blockwise_symmetric" and settings["torch_dtype"] == "bfloat16"
    exact = attention == "exact"
    assert settings["quantization_block_axis"] == ([-2, -1] if exact else [1, 2])
    assert settings["quantization_block_size"] == ([1, 128] if exact else [128, 128])
    assert (settings["tp_degree"], settings["moe_tp_degree"] * settings["moe_ep_degree"], settings["ep_degree"]) == (4, 4, 1)
    assert settings["skip_sharding"] is shards and settings["save_sharded_checkpoint"] is True
    assert settings["quantized_mlp_kernel_enabled"] is False and settings["fused_qkv"] is False


@pytest.mark.parametrize("attention, skipped", SKIPPED.items())
def test_the_skip_list_matches_what_is_not_fp8(even, attention, skipped, tmp_path):
    """NxD matches by substring of the module's path: hit, and only hit, what has no scale in the files."""
    out = convert(even, tmp_path / "out", "neuron", attention=attention)
    entries = load_json(out / "neuron_config.json")["modules_to_not_convert"]
    assert entries == skipped
    tensors = read_folder(out)
    for module, stem in modules(load_json(even / "config.json")).items():
        hit = any(entry in module for entry in entries)
        assert hit == (tensors[stem + ".weight"].itemsize != 1) == (stem + ".scale" not in tensors), module


def test_the_context_is_what_the_model_and_the_user_say(even, tmp_path):
    first = load_json(convert(DEMO, tmp_path / "a", "neuron") / "neuron_config.json")
    assert first["seq_len"] == load_json(DEMO / "config.json")["max_position_embeddings"] == 1024
    second = load_json(convert(even, tmp_path / "b", "neuron", context=256, tp=4, batch=16) / "neuron_config.json")
    assert (second["seq_len"], second["batch_size"], second["tkg_batch_size"], second["ctx_batch_size"]) == (256, 16, 16, 1)


def test_after_an_error_no_thread_writes_into_a_closed_file(even, tmp_path, monkeypatch):
    """The number of a closed file may be another file's already: a late write would go there."""
    from weighbridge.convert import run

    monkeypatch.setenv("WEIGHBRIDGE_THREADS", "2")
    monkeypatch.setattr("weighbridge.convert.shape.SLAB", 1 << 14)
    first, late = threading.Event(), []
    real = run._write

    def slow(handle, data, offset):
        if threading.current_thread() is not threading.main_thread() and first.is_set():
            time.sleep(0.2)
            try:
                late.append(os.readlink(f"/proc/self/fd/{handle}"))
            except OSError:
                late.append("closed")
        return real(handle, data, offset)

    def progress(done, total):
        if first.is_set():
            return
        first.set()
        time.sleep(0.1)
        raise KeyError("progress")

    monkeypatch.setattr(run, "_write", slow)
    with pytest.raises(KeyError):
        wb.open(even).convert(tmp_path / "out", "hf-bf16", progress=progress)
    assert late and all(path.endswith(".partial") for path in late)

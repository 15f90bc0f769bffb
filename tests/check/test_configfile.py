"""Configuration files given beside the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.failures.tools import build, m2
from weighbridge.check.configfile import joined, parse_size, read_files
from weighbridge.check.settings import Settings
from weighbridge.checkpoint.checkpoint import INDEX, Checkpoint
from weighbridge.checkpoint.source import open_store
from weighbridge.checkpoint.store import OverlayStore
from weighbridge.errors import Usage

NEURON = {"tp_degree": 64, "moe_ep_degree": 64, "moe_tp_degree": 1, "batch_size": 32, "seq_len": 4096, "quantized": True, "env": {"A": "1"}}


def put(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("content", [NEURON, {"neuron_config": NEURON, "hidden_size": 3072, "model_type": "minimax_m2"}])
def test_neuron_settings_flat_or_inside(tmp_path: Path, content: dict) -> None:
    found = read_files([put(tmp_path / "any.json", content)])
    settings = Settings(**found.fields)
    assert (found.runtime, settings.tp, settings.moe_ep, settings.moe_tp, settings.batch, settings.context) == ("neuron", 64, 64, 1, 32, 4096)
    assert settings.neuron == NEURON
    assert settings.sources["neuron:quantized"] == "any.json: quantized"
    assert not found.overlay


def test_it_stands_in_for_the_checkpoints_own(tmp_path: Path) -> None:
    found = read_files([put(tmp_path / "neuron_config.json", NEURON)], present={"neuron_config.json"})
    assert json.loads(found.overlay["neuron_config.json"]) == NEURON


def test_yaml_of_vllm(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = put(tmp_path / "vllm.yaml", "model: X\ntensor-parallel-size: 8\nenable_expert_parallel: true\nmax-model-len: 32k\n"
               "gpu-memory-utilization: 0.8\n"
               "served-model-name: [a, b]\nadditional-config: {override_neuron_config: {tp_degree: 16}}\n")
    found = read_files([path])
    assert (found.runtime, found.memory_share) == ("neuron", 0.8)
    assert (found.fields["tp"], found.fields["context"]) == (16, 32000)
    plain = read_files([put(tmp_path / "b.yaml", "tensor-parallel-size: 8\nenable-expert-parallel: false\nport: 80\n")])
    assert (plain.runtime, plain.fields["tp"], plain.fields["expert_parallel"]) == ("vllm", 8, False)
    assert plain.unread == ["b.yaml: port 80"]
    assert plain.fields["sources"]["unread: b.yaml"] == "port 80"
    assert plain.fields["sources"]["tp"] == "b.yaml: tensor-parallel-size"


def test_yaml_of_other_readers(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    trt = read_files([put(tmp_path / "t.yaml", "max_batch_size: 4\nkv_cache_config:\n  dtype: fp8\n  free_gpu_memory_fraction: 0.7\n")],
                     runtime="tensorrt-llm")
    assert (trt.runtime, trt.fields["batch"], trt.fields["kv_cache_dtype"], trt.memory_share) == ("tensorrt-llm", 4, "fp8", 0.7)
    assert read_files([put(tmp_path / "s.yaml", "tp-size: 4\nep-size: 2\n")], runtime="sglang").fields["ep"] == 2


@pytest.mark.parametrize(("text", "runtime"), [("tensor-parallel-size: 8\n", "vllm"), ("tp-size: 4\nep-size: 2\n", "sglang"),
                                               ("tp_size: 4\nmax_batch_size: 2\n", "tensorrt-llm"),
                                               ("kv_cache_config: {dtype: fp8}\n", "tensorrt-llm"), ("port: 1\n", "vllm")])
def test_whose_yaml_it_is(tmp_path: Path, text: str, runtime: str) -> None:
    pytest.importorskip("yaml")
    assert read_files([put(tmp_path / "x.yaml", text)]).runtime == runtime


@pytest.mark.parametrize("text", ["a: &x [1]\nb: *x\n", "a: !!python/object:os.system x\n", "- 1\n", "a: [\n", "[" * 5000,
                                  "tensor-parallel-size: [8]\n",
                                  "tensor-parallel-size: 2024-01-01\n", "\x00"])
def test_yaml_that_is_refused(tmp_path: Path, text: str) -> None:
    pytest.importorskip("yaml")
    with pytest.raises(Usage):
        read_files([put(tmp_path / "x.yaml", text)])


@pytest.mark.parametrize(("name", "content", "kind"), [
    ("a.json", {"model_type": "llama", "hidden_size": 8}, "config.json"),
    ("b.json", {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, "hf_quant_config.json"),
    ("c.json", {"metadata": {}, "weight_map": {}}, INDEX), ("quantize_config.json", {"bits": 4, "group_size": 128}, "quantize_config.json"),
    ("config.json", {}, "config.json"),
])
def test_a_replacement_goes_over_the_original(tmp_path: Path, name: str, content: dict, kind: str) -> None:
    assert json.loads(read_files([put(tmp_path / name, content)]).overlay[kind]) == content


def test_a_folder_and_the_later_file_counts(tmp_path: Path) -> None:
    put(tmp_path / "d" / "config.json", {"model_type": "llama"})
    put(tmp_path / "d" / "neuron_config.json", NEURON | {"tp_degree": 8})
    put(tmp_path / "d" / "tokenizer_config.json", {"x": 1})
    found = read_files([put(tmp_path / "first.json", NEURON), tmp_path / "d"])
    assert (found.fields["tp"], found.fields["neuron"]["tp_degree"], list(found.overlay)) == (8, 8, ["config.json"])


def test_joined_goes_key_by_key() -> None:
    assert joined({"tp": 1, "neuron": {"a": 1, "b": 1}}, {"neuron": {"b": 2}}) == {"tp": 1, "neuron": {"a": 1, "b": 2}}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"x": 1}', '{"neuron_config": 3}', '{"tp_degree": "x"}', '{"tp_degree": 1e300}',
                                     '{"a":' * 3000, "\ud800"])
def test_json_that_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(Usage) as caught:
        read_files([path])
    assert "x.json" in caught.value.first.where


def test_files_that_are_not_there_or_too_long(tmp_path: Path) -> None:
    with pytest.raises(Usage):
        read_files([tmp_path / "none.json"])
    with pytest.raises(Usage):
        read_files([put(tmp_path / "long.yaml", "a: 1\n" * 60_000)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(Usage):
        read_files([tmp_path / "empty"])


def test_the_overlay_is_what_the_checkpoint_reads(tmp_path: Path) -> None:
    source = build(tmp_path / "m", *m2(layers=1))
    store = OverlayStore(open_store(source), {"config.json": b'{"model_type": "other"}', "hf_quant_config.json": b"{}"})
    checkpoint = Checkpoint(store)
    assert checkpoint.config == {"model_type": "other"}
    assert checkpoint.files["hf_quant_config.json"] == 2
    assert store.read("config.json", 2, 5) == b"model"
    assert store.path("config.json") is None
    assert store.path("model.safetensors") == source / "model.safetensors"
    assert checkpoint.tensors.keys() == Checkpoint(open_store(source)).tensors.keys()


def test_the_short_form_gives_fields_and_files(tmp_path: Path) -> None:
    found = read_files([put(tmp_path / "n.json", NEURON), put(tmp_path / "config.json", {"model_type": "llama"})])
    fields, files = found.fields, found.overlay
    assert (fields["tp"], list(files)) == (64, ["config.json"])


@pytest.mark.parametrize(("text", "size"), [("24GB", 24 * 10**9), ("96GiB", 96 << 30), ("80 gb", 80 * 10**9), ("1.5TB", 15 * 10**11), ("1024", 1024),
                                            ("512MiB", 512 << 20)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "--device-memory") == size


@pytest.mark.parametrize("text", ["", "many", "-1GB", "0", "24XB", "1e9", "24iB", "99999999999999TB"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(Usage) as caught:
        parse_size(text, "--device-memory")
    assert caught.value.first.where == "--device-memory"

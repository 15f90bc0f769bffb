"""Command lines that people have, read as runtime and settings."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.failures.tools import build, llama
from weighbridge.check.case import Case
from weighbridge.check.commandline import read_command
from weighbridge.check.rule import RUNTIMES
from weighbridge.check.run import findings
from weighbridge.check.settings import Settings
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.errors import Usage

OVERRIDE = json.dumps({"override_neuron_config": {"tp_degree": 64, "moe_ep_degree": 64, "quantized": True, "modules_to_not_convert": ["lm_head"]}})


@pytest.mark.parametrize(("line", "runtime", "said"), [
    ("vllm serve X -tp 8 --enable-expert-parallel", "vllm", {"tp": 8, "expert_parallel": True}),
    ("vllm serve X --tensor-parallel-size=8 --max-model-len 32768 --max-num-seqs 64", "vllm", {"tp": 8, "context": 32768, "batch": 64}),
    ("vllm serve X --tensor_parallel_size 8 --max_model_len=32k -pp 2 -dp 2", "vllm", {"tp": 8, "context": 32000, "pp": 2, "dp": 2}),
    ("vllm serve X --max-model-len 32K --quantization fp8 --kv-cache-dtype fp8", "vllm",
     {"context": 32768, "quantization": "fp8", "kv_cache_dtype": "fp8"}),
    ("vllm serve X --max-model-len auto --dtype auto -q fp8 --no-enable-expert-parallel", "vllm", {"quantization": "fp8", "expert_parallel": False}),
    ("python -m vllm.entrypoints.openai.api_server --model X --tensor-parallel-size 4 --trust-remote-code", "vllm",
     {"tp": 4, "trust_remote_code": True}),
    ("docker run --gpus all -v /a:/b --name vllm -e TOKEN=1 vllm/vllm-openai:v0.11.0 --model X --tensor-parallel-size 4", "vllm", {"tp": 4}),
    ("python3 -m sglang.launch_server --model-path X --tp-size 8 --ep-size 8", "sglang", {"tp": 8, "ep": 8}),
    ("python -m sglang.launch_server --model-path X --tp 8 --enable-ep-moe --context-length 4096", "sglang", {"tp": 8, "ep": 8, "context": 4096}),
    ("python -m sglang.launch_server --model X --tp 16 --moe-a2a-backend deepep --dp 4 --enable-dp-attention", "sglang",
     {"tp": 16, "ep": 16, "dp": 4}),
    ("python -m sglang.launch_server --model X --tp 16 --dp 4 --max-running-requests 9", "sglang", {"tp": 16, "batch": 9}),
    ("trtllm-serve X --tp_size 8 --ep_size 8 --max_batch_size 4 --max_seq_len 100", "tensorrt-llm",
     {"tp": 8, "moe_ep": 8, "moe_tp": 1, "batch": 4, "context": 100}),
    ("trtllm-serve serve X --tp_size 8 --ep_size 2", "tensorrt-llm", {"tp": 8, "moe_ep": 2, "moe_tp": 4}),
    ("python convert_hf_to_gguf.py X --outtype q8_0", "llama.cpp", {"dtype": "q8_0"}),
    (f"XLA_HANDLE_SPECIAL_SCALAR=1 vllm serve X --additional-config {shlex.quote(OVERRIDE)}", "neuron", {"tp": 64, "moe_ep": 64}),
    (f"vllm serve X -tp 8 --additional-config={shlex.quote(OVERRIDE)}", "neuron", {"tp": 64, "moe_ep": 64}),
    ("vllm serve X -tp 8 --max-num-seqs 32 --device neuron", "neuron", {"tp": 8, "batch": 32}),
    ("VLLM_NEURON_FRAMEWORK=neuronx-distributed-inference vllm serve X -tp 8", "neuron", {"tp": 8}),
    ("vllm serve X --additional-config.override_neuron_config.moe_tp_degree 4", "neuron", {"moe_tp": 4}),
    ("inference_demo --model-type llama --task-type causal-lm run --model-path X --tp-degree 64 --batch-size 32 --quantized --seq-len 128", "neuron",
     {"tp": 64, "batch": 32, "context": 128}),
    ("transformers serve X", "transformers", {}),
])
def test_what_is_said(line: str, runtime: str, said: dict) -> None:
    for argv in ([line], shlex.split(line)):
        command = read_command(argv)
        found, fields = command.runtime, command.fields
        settings = Settings(**fields)  # takes them all
        assert found == runtime
        assert {name: getattr(settings, name) for name in said} == said
        bare = {k: v for k, v in fields.items() if k not in ("neuron", "sources", "environment")}
        assert {k: v for k, v in bare.items() if v is not False} == {k: v for k, v in said.items() if v is not False}
    assert read_command([line]).model == "X" or "llama" in line


def test_settings_of_nxd_and_environment() -> None:
    command = read_command([f"XLA_HANDLE_SPECIAL_SCALAR=1 UNSAFE_FP8FNCAST=1 vllm serve X --additional-config {shlex.quote(OVERRIDE)}"])
    assert command.fields["neuron"] == json.loads(OVERRIDE)["override_neuron_config"]
    assert command.fields["environment"] == {"XLA_HANDLE_SPECIAL_SCALAR": "1", "UNSAFE_FP8FNCAST": "1"}
    assert command.fields["sources"]["tp"] == "override_neuron_config: tp_degree"


def test_flags_of_the_demo_become_settings() -> None:
    line = ("inference_demo run --model-path X --quantized --quantized-checkpoints-path Q --quantization-dtype f8e4m3 "
            "--quantization-type blockwise_symmetric "
            "--quantization-block-axis 1 2 --quantization-block-size 128,128 --modules-to-not-convert lm_head,o_proj --fused-qkv "
            "--blockwise-matmul-config '{\"block_size\": 512}'")
    assert read_command([line]).fields["neuron"] == {
        "quantized": True, "quantized_checkpoints_path": "Q", "quantization_dtype": "f8e4m3", "quantization_type": "blockwise_symmetric",
        "quantization_block_axis": [1, 2], "quantization_block_size": [128, 128], "modules_to_not_convert": ["lm_head", "o_proj"], "fused_qkv": True,
        "blockwise_matmul_config": {"block_size": 512}}


def test_unknown_flags_are_listed_and_files_and_memory_are_kept() -> None:
    command = read_command(["vllm serve X --swap-space 4 --foo -tp 2 --config a.yaml --gpu-memory-utilization 0.92 --bar=1"])
    assert command.unread == ("--swap-space 4", "--foo", "--bar 1")
    assert command.files == ("a.yaml",)
    assert command.memory_share == 0.92
    assert command.fields["tp"] == 2


def test_unread_flags_become_a_note(tmp_path: Path) -> None:
    fields = read_command(["vllm serve X --tensor-paralel-size 8"]).fields
    (finding,) = findings(Case(open_checkpoint(build(tmp_path / "m", *llama())), (), Settings(**fields)), select=["WB510"])
    assert (finding.severity, finding.evidence) == ("note", "--tensor-paralel-size 8")


def test_the_last_of_two_counts_and_the_source_is_as_typed() -> None:
    fields = read_command(["vllm serve X -tp 4 --tensor_parallel_size=8"]).fields
    assert (fields["tp"], fields["sources"]["tp"]) == (8, "--tensor_parallel_size")


@pytest.mark.parametrize(("line", "flag"), [
    ("vllm serve X -tp eight", "-tp"), ("vllm serve X --tensor-parallel-size", "--tensor-parallel-size"), ("vllm serve X -tp 1.5", "-tp"),
    ("vllm serve X --max-model-len 99999999999999999999", "--max-model-len"), ("vllm serve X -tp -3", "-tp"), ("vllm serve X -tp=", "-tp"),
    ("vllm serve X --gpu-memory-utilization 9", "--gpu-memory-utilization"), ("vllm serve X --additional-config '{'", "--additional-config"),
    ("vllm serve X --additional-config 3", "--additional-config"), ("vllm serve X --enable-expert-parallel=maybe", "--enable-expert-parallel"),
    ("vllm serve X --additional-config '{\"override_neuron_config\": {\"tp_degree\": \"many\"}}'", "tp_degree"),
    ("vllm serve X --additional-config '{\"override_neuron_config\": 3}'", "override_neuron_config"),
    ("trtllm-serve X --tp_size x", "--tp_size"), ("python train.py", "--"), ("vllm", "--"), ("vllm serve 'X", "--"), ("", "--"),
])
def test_what_cannot_be_read_names_its_flag(line: str, flag: str) -> None:
    with pytest.raises(Usage) as caught:
        read_command([line] if " " in line else line.split())
    assert flag in caught.value.first.where


def test_deep_json_is_refused() -> None:
    with pytest.raises(Usage):
        read_command(["vllm", "serve", "X", "--additional-config", "[" * 200_000 + "]" * 200_000])


@given(st.lists(st.one_of(st.text(max_size=12), st.sampled_from(["-tp", "--tp", "8", "--config", "--additional-config", "{}", "--quantized", "true",
                                                                 "--a.b",
                                                                     "--additional-config.override_neuron_config.x", "-1", "--no-quantized", "="])),
                max_size=12),
       st.sampled_from(["vllm serve", "python -m sglang.launch_server", "trtllm-serve", "inference_demo run", "convert_hf_to_gguf.py",
                        "transformers serve"]))
def test_any_words_are_read_or_refused(words: list[str], program: str) -> None:
    try:
        command = read_command([*program.split(), *words])
        Settings(**command.fields)
    except Usage:
        return
    assert command.runtime in RUNTIMES

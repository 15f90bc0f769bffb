"""Every place and every spelling of a claim, and claims of hostile types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.failures.tools import BLOCK_FP8, build, llama
from weighbridge.check.case import Case
from weighbridge.check.claim_keys import PLACES
from weighbridge.formats.places import LIST_KEYS
from weighbridge.check.rule import RUNTIMES
from weighbridge.check.run import findings, targets
from weighbridge.check.claim_keys import read_by, skip_list_of, unread_lists
from weighbridge.formats.stated import Stated, stated
from weighbridge.checkpoint.source import open_checkpoint

TENSORS, CONFIG = llama()
BARE = {key: value for key, value in CONFIG.items() if key != "quantization_config"}
MODELOPT = {"producer": {"name": "modelopt", "version": "0.33.0"}, "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8",
                                                                                    "group_size": 16,
                                                                                   "exclude_modules": ["lm_head"]}}


def claims(folder: Path, config: dict[str, Any] | None = None, **more: Any) -> tuple[Stated, ...]:
    return stated(open_checkpoint(build(folder / "c", TENSORS, BARE | (config or {}), **more)))


@pytest.mark.parametrize("place, config, files", [
    ("config", {"quantization_config": BLOCK_FP8}, {}),
    ("text", {"text_config": {"quantization_config": BLOCK_FP8}}, {}),
    ("compression", {"compression_config": {"quant_method": "compressed-tensors", "format": "dense"}}, {}),
    ("hf_quant", {}, {"hf_quant_config.json": MODELOPT}),
    ("quantize", {}, {"quantize_config.json": {"bits": 4, "group_size": 128}}),
    ("neuron", {}, {"neuron_config.json": {"quantized": True, "modules_to_not_convert": ["lm_head"]}}),
])
def test_every_place_is_found(tmp_path: Path, place: str, config: dict, files: dict) -> None:
    found = claims(tmp_path, config, files=files)
    assert [claim.place for claim in found] == [place]
    for runtime, places in PLACES.items():
        assert (read_by(found, runtime) is not None) is (place in places)


@pytest.mark.parametrize("metadata, method", [
    ({"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": {"a": {"format": "float8_e4m3fn"}}})}, "comfyui"),
    ({"format": "pt", "model.layers.0.mlp.up_proj.weight": json.dumps({"_type": "Float8Tensor", "_data": {}})}, "torchao"),
])
def test_claims_in_the_metadata_of_a_file(tmp_path: Path, metadata: dict, method: str) -> None:
    found = claims(tmp_path, metadata=metadata)
    assert [(c.place, c.method, c.file) for c in found] == [("metadata", method, "model.safetensors")]


def test_sizes_and_schemes_in_common_words(tmp_path: Path) -> None:
    fp8, modelopt = claims(tmp_path, {"quantization_config": BLOCK_FP8}, files={"hf_quant_config.json": MODELOPT})
    assert (fp8.method, fp8.block, fp8.activation, fp8.family) == ("fp8", (128, 128), "dynamic", "fp8")
    assert (modelopt.method, modelopt.algo, modelopt.group, modelopt.kv, modelopt.lists) == ("modelopt", "NVFP4", 16, "FP8",
                                                                                             {"exclude_modules": ("lm_head",)})


def test_a_method_is_worked_out_from_the_producer(tmp_path: Path) -> None:
    claim, = claims(tmp_path, {"quantization_config": {"quant_algo": "fp8", "producer": {"name": "modelopt"}, "config_groups": {}}})
    assert (claim.method, claim.method_stated, claim.algo) == ("modelopt", False, "FP8")


def test_which_key_each_reader_reads(tmp_path: Path) -> None:
    claim, = claims(tmp_path, {"quantization_config": {**BLOCK_FP8, "ignored_layers": ["a"], "modules_to_not_convert": []}})
    assert skip_list_of(claim, "transformers") == ("ignored_layers", ("a",))
    assert skip_list_of(claim, "vllm") == ("ignored_layers", ("a",))
    assert skip_list_of(claim, "tensorrt-llm") == ("modules_to_not_convert", ())
    assert unread_lists(claim, "tensorrt-llm") == {"ignored_layers": ("a",)}
    assert not unread_lists(claim, "sglang")


def test_gptqs_dynamic_is_a_list_of_patterns(tmp_path: Path) -> None:
    claim, = claims(tmp_path, {"quantization_config": {"quant_method": "gptq", "bits": 4, "dynamic": {"-:.*gate$": {}, "+:.*": {"bits": 8}, "x": 1}}})
    assert claim.lists == {"dynamic": (".*gate$",)}
    assert skip_list_of(claim, "vllm") == ("dynamic", (".*gate$",))


json_values = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-2, 1 << 40), st.floats(allow_nan=False, allow_infinity=False),
                                     st.sampled_from(["", "lm_head", "*gate*", "re:(", "fp8", "static", "a" * 1200])),
                           lambda inner: st.one_of(st.lists(inner, max_size=3),
                                                   st.dictionaries(st.sampled_from(["a", "weights", "targets", "name"]), inner, max_size=3)),
                           max_leaves=6)
KEYS = [*LIST_KEYS, "quant_method", "weight_block_size", "activation_scheme", "scale_fmt", "config_groups", "dynamic", "kv_cache_scheme", "producer",
        "quant_algo",
        "bits", "group_size", "quantized_layers", "format", "expert_dtype", "load_in_4bit"]


@given(claim=st.dictionaries(st.sampled_from(KEYS), json_values, max_size=6),
       method=st.sampled_from(["fp8", "compressed-tensors", "awq", "gptq", "modelopt", None]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_claims_end_in_words(tmp_path_factory: pytest.TempPathFactory, claim: dict, method: str | None) -> None:
    """Any type anywhere: the rules of both groups give findings or none, never a traceback."""
    full = claim | ({"quant_method": method} if method else {})
    folder = build(tmp_path_factory.mktemp("h"), TENSORS, BARE | {"quantization_config": full, "layer_types": claim.get("targets", full)},
                   files={"neuron_config.json": {**claim, "quantized": True}})
    case = Case(open_checkpoint(folder, lenient=True), targets([",".join(RUNTIMES)]), scale_bytes="none")
    for finding in findings(case, select=["WB2", "WB3"]):
        assert finding.title and finding.severity in ("error", "warning", "note")


def test_modelopts_own_form_within_config_json(tmp_path: Path) -> None:
    claim, = claims(tmp_path, {"quantization_config": {"quant_method": "modelopt", "quantization": MODELOPT["quantization"]}})
    assert (claim.algo, claim.group, claim.lists) == ("NVFP4", 16, {"exclude_modules": ("lm_head",)})

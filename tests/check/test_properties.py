"""Random models: a valid one is never called wrong, one injected fault of any group is never called clean."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.failures.tools import Config, Tensors, build, deepseek, floats, llama, m2, plausible, qwen3_moe
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.run import findings, targets
from weighbridge.check.settings import Settings
from weighbridge.checkpoint.source import open_checkpoint

QUIET = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
Model = tuple[Tensors, Config]


@st.composite
def models(draw: st.DrawFn, unit: int = 128) -> Model:
    """A checkpoint of one of six families; widths are multiples of `unit`."""
    hidden, inter = draw(st.integers(2, 5)) * unit, draw(st.integers(1, 4)) * unit
    layers, experts = draw(st.integers(1, 3)), draw(st.integers(2, 6))
    kv = draw(st.sampled_from([1, 2]))
    family = draw(st.sampled_from(["m2", "llama", "qwen2", "qwen3", "qwen3_moe", "deepseek"]))
    if family == "m2":
        return m2(layers, max(experts, 2), hidden, inter, 2 * kv, kv, num_experts_per_tok=2)
    if family == "qwen3_moe":
        return qwen3_moe(layers, experts, hidden, inter, 2 * kv, kv)
    if family == "deepseek":
        return deepseek(layers + 1, experts, hidden, inter, inter)
    tensors, config = llama(layers, 512, inter, 4, kv, model_type=family, biases=family == "qwen2", qk_norm=family == "qwen3")
    return tensors, config


def check(model: Model, runtimes: str = "", given_settings: dict[str, Any] | None = None, **more: Any) -> list[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        path = build(Path(folder) / "m", *model, **more)
        return findings(Case(open_checkpoint(path, lenient=True), targets([runtimes] if runtimes else []), Settings(**(given_settings or {}))))


def errors(found: list[Finding]) -> list[tuple[str, str | None, str, str]]:
    return [(f.code, f.runtime, f.title, f.evidence) for f in found if f.severity == "error"]


@given(models())
@QUIET
def test_a_valid_model_is_not_called_wrong(model: Model) -> None:
    assert not errors(check(model, "transformers,vllm,sglang,tensorrt-llm,llama.cpp", {"tp": 1}))


@given(models(unit=96))
@QUIET
def test_ragged_blocks_are_not_wrong_by_themselves(model: Model) -> None:
    assert not errors(check(model))


@given(models())
@QUIET
def test_an_unquantized_model_is_fine_everywhere(model: Model) -> None:
    tensors, config = model
    plain = {name: ("BF16" if dtype == "F8_E4M3" else dtype, shape) for name, (dtype, shape) in tensors.items() if not name.endswith("weight_scale_inv")}
    bare = {key: value for key, value in config.items() if key != "quantization_config"}
    assert not errors(check((plain, bare), "transformers,vllm,sglang,tensorrt-llm,llama.cpp", {"tp": 1}))


def scale_of(tensors: Tensors, draw: Callable[[Any], Any]) -> str:
    return draw(st.sampled_from(sorted(name for name in tensors if name.endswith("weight_scale_inv"))))


def weight_of(tensors: Tensors, draw: Callable[[Any], Any]) -> str:
    return draw(st.sampled_from(sorted(name for name, (dtype, _) in tensors.items() if dtype == "F8_E4M3")))


Fault = Callable[[Model, Callable[[Any], Any]], tuple[Model, str, dict[str, Any], dict[str, Any]]]


def _drop_weight(model: Model, draw: Any) -> Any:
    name = weight_of(model[0], draw)
    return ({k: v for k, v in model[0].items() if k not in (name, name + "_scale_inv")}, model[1]), "", {}, {}


def _shape(model: Model, draw: Any) -> Any:
    name = draw(st.sampled_from(sorted(n for n in model[0] if "norm" in n)))
    dtype, shape = model[0][name]
    return ({**model[0], name: (dtype, (shape[0] + 1,))}, model[1]), "", {}, {}


def _no_claim(model: Model, draw: Any) -> Any:
    return (model[0], {k: v for k, v in model[1].items() if k != "quantization_config"}), "", {}, {}


def _other_block(model: Model, draw: Any) -> Any:
    block = draw(st.sampled_from([[64, 128], [128, 64], [64, 64], [32, 32]]))
    return (model[0], {**model[1], "quantization_config": {**model[1]["quantization_config"], "weight_block_size": block}}), "", {}, {}


def _other_method(model: Model, draw: Any) -> Any:
    method = draw(st.sampled_from(["awq", "gptq", "mxfp4", "compressed-tensors"]))
    return (model[0], {**model[1], "quantization_config": {**model[1]["quantization_config"], "quant_method": method}}), "", {}, {}


def _listed(model: Model, draw: Any) -> Any:
    name = draw(st.sampled_from(sorted(n for n, (d, _) in model[0].items() if d == "F8_E4M3" and "experts." not in n)))
    claim = model[1]["quantization_config"]
    listed = [*claim.get("modules_to_not_convert", []), name.removesuffix(".weight")]
    return (model[0], {**model[1], "quantization_config": {**claim, "modules_to_not_convert": listed}}), "vllm,sglang", {"tp": 1}, {}


def _not_listed(model: Model, draw: Any) -> Any:
    name = draw(st.sampled_from(sorted(n for n, (d, _) in model[0].items() if d == "F8_E4M3" and n.endswith("o_proj.weight"))))
    tensors = {k: v for k, v in model[0].items() if k != name + "_scale_inv"}
    return ({**tensors, name: ("BF16", tensors[name][1])}, model[1]), "vllm,sglang", {"tp": 1}, {}


def _no_scale(model: Model, draw: Any) -> Any:
    name = scale_of(model[0], draw)
    return ({k: v for k, v in model[0].items() if k != name}, model[1]), "", {}, {}


def _scale_shape(model: Model, draw: Any) -> Any:
    name = scale_of(model[0], draw)
    dtype, shape = model[0][name]
    return ({**model[0], name: (dtype, (shape[0] + 1, shape[1]))}, model[1]), "", {}, {}


def _scale_value(model: Model, draw: Any) -> Any:
    name, value = scale_of(model[0], draw), draw(st.sampled_from([float("nan"), float("inf"), -1e-4, -float("inf")]))
    shape = model[0][name][1]
    place = draw(st.integers(0, prod(shape) - 1))
    raw = bytearray(plausible(name, "F32", shape))
    raw[4 * place: 4 * place + 4] = struct.pack("<f", value)
    return model, "", {}, {"data": {name: bytes(raw)}}


def _reciprocal(model: Model, draw: Any) -> Any:
    data = {}
    for name, (dtype, shape) in model[0].items():
        if name.endswith("weight_scale_inv"):
            values = struct.unpack(f"<{prod(shape)}f", plausible(name, dtype, shape))
            data[name] = floats([1 / v for v in values])
    return model, "", {}, {"data": data}


def _cut(model: Model, draw: Any) -> Any:
    """A degree that cuts the blocks of some matrix: no width here has more than five blocks, and all have some."""
    return model, draw(st.sampled_from(["vllm", "sglang"])), {"tp": draw(st.sampled_from([16, 32, 64]))}, {}


def _format(model: Model, draw: Any) -> Any:
    name = weight_of(model[0], draw)
    return ({**model[0], name: ("F8_E5M2", model[0][name][1])}, model[1]), "neuron,vllm", {"tp": 1}, {}


def _nxd(model: Model, draw: Any) -> Any:
    return model, "neuron", {"tp": 8, "neuron": {"quantized": True, "quantization_dtype": draw(st.sampled_from(["F8E4M3", "f8e4m3fn", "int8"]))}}, {}


def _memory(model: Model, draw: Any) -> Any:
    return model, draw(st.sampled_from(["vllm", "sglang"])), {"tp": 1, "device_memory": 1_000_000}, {}


FAULTS: dict[str, Fault] = {
    "files-weight": _drop_weight, "files-shape": _shape, "claim-none": _no_claim, "claim-block": _other_block, "claim-method": _other_method,
    "skip-listed": _listed, "skip-not-listed": _not_listed, "scale-missing": _no_scale, "scale-shape": _scale_shape, "scale-value": _scale_value,
    "scale-reciprocal": _reciprocal, "parallel-cut": _cut, "format-e5m2": _format, "nxd-settings": _nxd, "memory": _memory,
}


@pytest.mark.parametrize("fault", FAULTS)
@given(model=models(), data=st.data())
@settings(QUIET, max_examples=12)
def test_a_fault_is_never_called_clean(fault: str, model: Model, data: st.DataObject) -> None:
    changed, runtimes, asked, more = FAULTS[fault](model, data.draw)
    assert errors(check(changed, runtimes, asked, **more)), fault


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8), st.data())
@settings(QUIET, max_examples=60)
def test_a_hostile_config_gets_an_answer(value: Any, data: st.DataObject) -> None:
    """Any value at any key: findings, or a refusal in words; never a traceback."""
    tensors, config = llama(1)
    claim = config["quantization_config"]
    keys = sorted(config) + ["text_config", "compression_config"]
    inner = sorted(claim) + ["config_groups", "ignore", "kv_cache_scheme", "format", "ignored_layers", "exclude_modules", "bits", "group_size", "dynamic"]
    if data.draw(st.booleans()):
        config = {**config, data.draw(st.sampled_from(keys)): value}
    else:
        config = {**config, "quantization_config": {**claim, data.draw(st.sampled_from(inner)): value}}
    check((tensors, config), "transformers,vllm,sglang,neuron,tensorrt-llm,llama.cpp", {"tp": 2})

"""The written lists, asked in the order in which each reader asks: layer by layer, joined layers by their joined name. Told apart from `runtimes/`, which
writes them."""

from __future__ import annotations

import re
from fnmatch import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.families import CONFIGS, facts, groups, modules
from weighbridge.layouts.configs import written
from weighbridge.layouts.rows import ROWS

JOINED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj"), "fused_qkv_a_proj": ("q_a_proj", "kv_a_proj_with_mqa")}
GROUPS = {family: groups(modules(family)[0]) for family in ("dense", "moe", "latent")}


def layers(paths: list[str]) -> dict[str, list[str]]:
    """Layer as vLLM has it -> its parts in the files."""
    found: dict[str, list[str]] = {}
    for path in paths:
        before, at, _ = path.partition(".experts.")
        parent, _, leaf = path.rpartition(".")
        joined = next((name for name, parts in JOINED.items() if leaf in parts), "")
        found.setdefault(before + ".experts" if at else f"{parent}.{joined}" if joined else path, []).append(path)
    return found


def by_parts(layer: str, parts: list[str], names) -> bool:
    """Parts must agree; experts are asked for by the layer's name."""
    if layer.endswith(".experts"):
        return any("experts" in entry and layer in entry for entry in names)
    said = [part in names for part in parts]
    assert all(said) or not any(said), f"{layer}: some but not all parts"
    return all(said)


def vllm_modelopt(layer: str, parts: list[str], entries: list[str]) -> bool:
    return by_parts(layer, parts, entries) or any(e != layer and e in layer for e in entries) or any(fnmatch(layer, e) for e in entries)


def sglang_modelopt(layer: str, parts: list[str], entries: list[str]) -> bool:
    layer = layer.replace("fused_qkv_a_proj", "fused_qkv_a_proj_with_mqa")
    if not layer.endswith(".experts"):
        said = [any(f".{e.rstrip('.')}." in f".{part}." for e in entries) for part in parts]
        assert all(said) or not any(said), f"{layer}: some but not all parts"
        if all(said):
            return True
    for entry in entries:
        pattern = entry.replace(".", r"\.").replace("*", ".*")
        if re.fullmatch(pattern, layer) or any(re.fullmatch(pattern, word) for word in layer.split(".")):
            return True
        word = entry.rsplit(".", 1)[-1]
        if word in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj") and word in layer.rsplit(".", 1)[-1]:
            return True
    return False


def tensorrt_llm(layer: str, parts: list[str], entries: list[str]) -> bool:
    def excluded(name: str) -> bool:
        words = name.split(".")
        above = [".".join(words[:n]) for n in range(len(words), 0, -1)]
        return any(fnmatch(a, e) or (e.endswith(".*") and fnmatch(a, e[:-2])) for a in above for e in entries)

    said = [excluded(part) for part in ([layer] if layer.endswith(".experts") else parts)]
    assert all(said) or not any(said), f"{layer}: some but not all parts"
    return all(said)


def vllm_gptq(layer: str, parts: list[str], entries: list[str]) -> bool:
    return any(re.match(entry, layer) for entry in entries)


def vllm_awq(layer: str, parts: list[str], entries: list[str]) -> bool:
    said = [any(e in part for e in entries) for part in ([layer] if layer.endswith(".experts") else parts)]
    assert all(said) or not any(said), f"{layer}: some but not all parts"
    return all(said)


def vllm_compressed(layer: str, parts: list[str], entries: list[str]) -> bool:
    """Experts are asked for by the names of the first one's matrices."""
    names = [f"{layer}.0.{p}_proj" for p in ("gate", "up", "down")] if layer.endswith(".experts") else parts
    said = [any(re.match(e[3:], n) if e.startswith("re:") else e == n for e in entries) for n in names]
    assert all(said) or not any(said), f"{layer}: some but not all parts"
    return all(said)


ASKED = [("modelopt-fp8-block", "ignore", vllm_modelopt), ("modelopt-fp8-block", "ignore", sglang_modelopt), ("modelopt-fp8-block", "ignore", tensorrt_llm),
         ("hf-fp8", "modules_to_not_convert", by_parts), ("hf-fp8", "modules_to_not_convert", tensorrt_llm), ("gptq-int4", "dynamic", vllm_gptq),
         ("awq-int4", "modules_to_not_convert", vllm_awq), ("ct-int4", "ignore", vllm_compressed)]


@pytest.mark.parametrize(("layout", "key", "asks"), ASKED, ids=lambda value: getattr(value, "__name__", str(value)))
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_reader_that_asks_layer_by_layer(layout, key, asks, data) -> None:
    family = data.draw(st.sampled_from(sorted(GROUPS)))
    whole = data.draw(st.sampled_from(["", "self_attn", "q_proj", "kv_b_proj", "q_a_proj", "experts", "o_proj", "down_proj"]))
    chosen = data.draw(st.sets(st.sampled_from(range(len(GROUPS[family]))), max_size=6))
    skipped = {m for n, group in enumerate(GROUPS[family]) for m in group if n in chosen or any(whole in p.split(".") for p in group)}
    about = facts(family, ROWS[layout], frozenset(skipped))
    listed = written(about).config["quantization_config"][key]
    entries = [entry.removeprefix("-:") for entry in listed]
    for layer, parts in layers(list(about.quantized)).items():
        assert not asks(layer, parts, entries), f"{layer} is quantized; {entries}"
    for layer, parts in layers(sorted(skipped)).items():
        assert asks(layer, parts, entries), f"{layer} is not quantized; {entries}"


def test_every_family_is_asked_for() -> None:
    assert GROUPS.keys() < CONFIGS.keys()

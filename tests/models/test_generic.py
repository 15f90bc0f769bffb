"""The family of everything else: the files' own names and shapes, stacks by slice, and what is not known in words."""

from __future__ import annotations

from math import prod
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.errors import WeighbridgeError
from weighbridge.layouts import hf
from weighbridge.layouts.options import Options
from weighbridge.layouts.published import published, stored_forms
from weighbridge.models import inventory, inventory_of

CONFIG = {"model_type": "nobody_knows", "hidden_size": 64, "num_attention_heads": 4, "moe_k": 2, "num_experts": 4}
AT = "model.layers.1."
TENSORS: dict[str, tuple[tuple[int, ...], bool]] = {
    "model.embed_tokens.weight": ((128, 64), False), "lm_head.weight": ((128, 64), False), "model.norm.weight": ((64,), False),
    AT + "self_attn.q_proj.weight": ((64, 64), True), AT + "self_attn.q_proj.bias": ((64,), False), AT + "self_attn.sinks": ((4,), False),
    AT + "linear_attn.in_proj_qkvz.weight": ((96, 64), False), AT + "linear_attn.conv1d.weight": ((96, 1, 4), False),
    AT + "linear_attn.A_log": ((4,), False), AT + "mixer.x_proj.weight": ((24, 64), False),
    AT + "mlp.gate.weight": ((4, 64), False), AT + "mlp.experts.gate_up_proj": ((4, 48, 64), True), AT + "mlp.experts.down_proj": ((4, 64, 24), False),
    AT + "mlp.shared_expert_gate.weight": ((1, 64), False), "scalar": ((), False), "visual.patch_embed.proj.weight": ((8, 3, 2, 4, 4), False),
    "visual.pos_embed.weight": ((16, 8), False), "visual.blocks.0.attn.qkv.weight": ((24, 8), False),
}


def test_names_and_shapes_are_those_of_the_files() -> None:
    made = inventory_of(CONFIG, TENSORS)
    assert made.published_names.keys() == TENSORS.keys() and all(made.published_names.values())
    assert {c.name: c.placement.shape for c in published(made)} == {name: shape for name, (shape, _) in TENSORS.items()}
    assert made.model_type == "nobody_knows" and made.sizes["layers"] == 2 and made.sizes["top_k"] == 2


def test_what_looks_like_a_projection_is_linear() -> None:
    made = inventory_of(CONFIG, TENSORS)
    linear = {name for name, weight in made.weights.items() if weight.linear}
    experts = {f"{AT}mlp.experts.gate_up_proj.{e}" for e in range(4)}
    assert linear == experts | {AT + "self_attn.q_proj.weight", AT + "linear_attn.in_proj_qkvz.weight", AT + "mixer.x_proj.weight",
                                "visual.blocks.0.attn.qkv.weight"}


def test_a_quantized_stack_is_one_matrix_for_each_slice() -> None:
    made = inventory_of(CONFIG, TENSORS)
    name = AT + "mlp.experts.gate_up_proj"
    assert {made[f"{name}.{e}"].shape for e in range(4)} == {(48, 64)}
    assert {several[0].name for key, several in stored_forms(made).items() if key.startswith(name)} == {name}


def test_it_says_what_it_does_not_know() -> None:
    text = " ".join(inventory_of(CONFIG, TENSORS).unknown)
    assert "fuses" in text and "tensor parallelism" in text and "not missed" in text
    assert "1 stacks, model.layers.1.mlp.experts.down_proj for one" in text
    assert inventory({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8,
                      "intermediate_size": 8}).unknown == ()


def test_without_headers_an_unknown_family_is_refused() -> None:
    with pytest.raises(WeighbridgeError, match="nobody_knows"):
        inventory(CONFIG)
    assert inventory_of({}, {}).model_type == "unknown" and inventory_of({"model_type": 7}, {}).weights == {}


@given(st.dictionaries(st.text("abg.w0_", min_size=1, max_size=8), st.tuples(st.lists(st.integers(1, 4), max_size=5).map(tuple), st.booleans())))
def test_every_tensor_is_kept_whole(tensors: dict[str, tuple[tuple[int, ...], bool]]) -> None:
    made = inventory_of(CONFIG, tensors)
    assert sum(weight.parameters for weight in made.weights.values()) == sum(prod(shape) for shape, _ in tensors.values())
    assert {c.name: c.placement.shape for c in published(made)} == {name: shape for name, (shape, _) in tensors.items()}


def test_a_layout_spreads_an_unknown_model_over_files_by_layer() -> None:
    source = SimpleNamespace(inventory=inventory_of(CONFIG, TENSORS), to_code=frozenset(), bound=[], holders={}, scale_dtype="")
    files = {stored.name: stored.file for stored in hf.stored(source, "hf-bf16", Options())}
    assert files.keys() == TENSORS.keys()
    assert {file for name, file in files.items() if name.startswith(AT)} == {"model-00003-of-00003.safetensors"}
    assert files["lm_head.weight"] == "model-00001-of-00003.safetensors"

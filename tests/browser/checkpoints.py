"""Checkpoints that only the pages need: one with many faults, one whose names and values are markup."""

from __future__ import annotations

from math import nan, prod
from pathlib import Path

from tests.failures import tools

MARKS = ("<img src=x onerror=window.__hit=1>", "</script><script>window.__hit=2</script>", "'\"><svg onload=window.__hit=3>", "javascript:window.__hit=4",
         "${window.__hit=5}", "<!--<script>", "]]><script>window.__hit=6</script>", "\u202eright to left")
FOLDER = "named <img src=x onerror=window.__hit=7> '\"&"


def faulty(folder: Path) -> Path:
    """MiniMax-M2 in small, with a fault for each of many rules: files, claim, skip list, scales, sizes."""
    tensors, config = tools.m2(layers=3, experts=8, inter=384)
    expert = "model.layers.0.block_sparse_moe.experts."
    tensors[f"{expert}1.w1.weight_scale_inv"] = ("F32", (4, 3))  # the grid is turned
    del tensors[f"{expert}2.w2.weight_scale_inv"]
    del tensors["model.layers.1.self_attn.k_norm.weight"]
    tensors["model.layers.9.self_attn.q_proj.weight"] = ("BF16", (1024, 512))  # of a layer that the config has not
    broken = f"{expert}3.w3.weight_scale_inv"
    values = {broken: tools.floats([1e-4, nan, *[1e-4] * (prod(tensors[broken][1]) - 2)]),
              f"{expert}4.w1.weight_scale_inv": tools.floats([1e4] * prod(tensors[f"{expert}4.w1.weight_scale_inv"][1]))}
    config["quantization_config"] = config["quantization_config"] | {"modules_to_not_convert": ["lm_head", "self_attn", "gate", "no_such_module"]}
    config |= {"num_experts_per_tok": 20, "torch_dtype": "float16"}
    index = {name: "model.safetensors" for name in tensors} | {"model.layers.0.not_there.weight": "model.safetensors"}
    return tools.build(folder, tensors, config, data=values, index=index)


def hostile(folder: Path) -> Path:
    """Names of tensors, of the folder and values of the config that a page would run if it took them for markup."""
    tensors, config = tools.m2(layers=2, experts=4)
    for layer, mark in enumerate(MARKS):
        tools.fp8(tensors, f"model.layers.{layer % 2}.self_attn.{mark}", (256, 256))
        tools.fp8(tensors, mark, (128, 128))
    claims = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": list(MARKS), MARKS[0]: MARKS[1], "fmt": MARKS[0],
              "activation_scheme": MARKS[2]}
    config |= {"quantization_config": claims, "architectures": list(MARKS), "torch_dtype": MARKS[0], "rope_scaling": {"type": MARKS[1], MARKS[0]: MARKS[1]}}
    return tools.build(folder / FOLDER, tensors, config, files={"neuron_config.json": {mark: mark for mark in MARKS}})


def nameless(folder: Path) -> Path:
    """A family that nobody knows: its very type is markup."""
    tensors, config = tools.m2(layers=2, experts=4)
    named = {name.replace("self_attn", MARKS[0]).replace("block_sparse_moe", MARKS[1]): kind for name, kind in tensors.items()}
    return tools.build(folder / "nameless", named, config | {"model_type": MARKS[0], "architectures": [MARKS[1]]})

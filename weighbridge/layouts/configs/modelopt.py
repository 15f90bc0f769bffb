"""ModelOpt: the same claim in hf_quant_config.json (TensorRT-LLM) and, with other keys, in config.json (vLLM, SGLang).

Read in nvidia-modelopt 0.47 `export/convert_hf_config.py`, vLLM 0.33 `modelopt.py`, SGLang main `modelopt_quant.py`, and NVIDIA's published files.
"""

from __future__ import annotations

from typing import Any

from weighbridge.version import __version__
from weighbridge.errors import WeighbridgeError
from weighbridge.formats.scheme import Encoding
from weighbridge.layouts.configs import base
from weighbridge.layouts.configs.facts import Facts, Held, Written

FAMILY = "modelopt"
# Scheme -> (algorithm without and with static scales of the activations); empty where there is none.
ALGORITHMS = {
    "modelopt-fp8": ("", "FP8"), "modelopt-fp8-channel": ("FP8_PER_CHANNEL_PER_TOKEN", ""), "modelopt-fp8-block": ("FP8_PB_WO", ""),
    "modelopt-nvfp4": ("W4A16_NVFP4", "NVFP4"), "modelopt-mxfp8": ("MXFP8", "")}
_WEIGHTS_ALONE = ("W4A16_NVFP4",)
_BLOCK = (128, 128)


def written(facts: Facts) -> Written:
    """Raises WeighbridgeError where scales of activations are missing that the algorithm needs, or are there that it does not know."""
    if not facts.held:
        base.only_encoding(facts)
    facts = merged(facts)
    listed = base.skip_list(facts, FAMILY)
    # Readers go by this name; who made the file stands in the version.
    producer = {"name": "modelopt", "version": f"weighbridge-{__version__}"}
    algorithms = [algorithm(held.encoding, facts.static) for held in facts.held]
    mixed = len(facts.held) > 1
    algo = "MIXED_PRECISION" if mixed else algorithms[0]
    claim: dict[str, Any] = {"quant_method": FAMILY, "quant_algo": algo, "ignore": listed, "producer": producer}
    groups = {f"group_{n}": {**_group(own, held.encoding), "targets": _modules(held) if mixed else ["Linear"]}
              for n, (own, held) in enumerate(zip(algorithms, facts.held, strict=True)) if own != "FP8_PB_WO"}  # which has no group there
    if groups:
        claim["config_groups"] = groups
    if facts.kv_cache:
        claim["kv_cache_scheme"] = {"dynamic": False, "num_bits": 8, "type": "float"}
    inner: dict[str, Any] = {"quant_algo": algo, "kv_cache_quant_algo": "FP8" if facts.kv_cache else None, "exclude_modules": listed}
    if mixed:
        claim["quantized_layers"] = inner["quantized_layers"] = {
            module: _layer(own, held.encoding) for own, held in zip(algorithms, facts.held, strict=True) for module in _modules(held)}
    elif facts.held[0].encoding.strategy == "group":
        inner["group_size"] = base.group_size(facts.held[0].encoding)
    return base.written(facts, claim, {"hf_quant_config.json": {"producer": producer, "quantization": inner}})


def merged(facts: Facts) -> Facts:
    """Encodings with the same algorithm and group size are one."""
    return base.merged(facts, lambda encoding: _layer(algorithm(encoding, facts.static), encoding))


def algorithm(encoding: Encoding, static: bool) -> str:
    """ModelOpt's name for a scheme."""
    if encoding.scheme not in ALGORITHMS:
        raise WeighbridgeError("config-mixed", f"ModelOpt has no algorithm for {encoding.scheme}; it has {', '.join(ALGORITHMS)}",
                               "hf_quant_config.json: quant_algo", "choose another layout")
    found = ALGORITHMS[encoding.scheme][static]
    if not found:
        lacks = "needs a static scale of each layer's activations (input_scale), and there is none"
        needs = "takes no static scales of activations" if static else lacks
        raise WeighbridgeError("config-static", f"{encoding.scheme} {needs}", "hf_quant_config.json: quant_algo",
                               "give --activation-scales FILE" if not static else "leave --activation-scales out")
    if found == "FP8_PB_WO" and encoding.block != _BLOCK:
        raise WeighbridgeError("config-block", f"FP8_PB_WO has blocks of 128x128, the plan has {'x'.join(map(str, encoding.block or ()))}",
                               "hf_quant_config.json: quant_algo", "leave --block out")
    return found


def _group(algo: str, encoding: Encoding) -> dict[str, Any]:
    args: dict[str, Any] = {"dynamic": False, "num_bits": base.bits(encoding), "type": "float"}
    if encoding.strategy == "group":
        args["group_size"] = base.group_size(encoding)
    weights = {**args, "strategy": "channel"} if encoding.strategy == "channel" else args
    return {"weights": weights} if algo in _WEIGHTS_ALONE else {"weights": weights, "input_activations": args}


def _layer(algo: str, encoding: Encoding) -> dict[str, Any]:
    return {"quant_algo": algo, **({"group_size": base.group_size(encoding)} if encoding.strategy == "group" else {})}


def _modules(held: Held) -> list[str]:
    """The experts of a layer are one name, as NVIDIA writes them."""
    return sorted({before + ".experts" if at else module for module in held.modules for before, at, _ in [module.partition(".experts.")]})

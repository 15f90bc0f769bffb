"""Which place, which methods and which keys of a quantization config each reader knows."""

from __future__ import annotations

from weighbridge.formats.stated import Stated

# Where each reader looks, first place first. Read in: transformers 5.23.0 quantizers/auto.py `get_hf_quantizer`; vLLM main config/model.py
# `_parse_quant_hf_config`; SGLang main configs/model_config.py (the same, then hf_quant_config.json); TensorRT-LLM main
# _torch/model_config.py (hf_quant_config.json before config.json); llama.cpp master `dequant_model` (hparams, text_config merged in). That vLLM and
# SGLang look into `text_config` was not seen there: multimodal classes hand it on.
PLACES: dict[str, tuple[str, ...]] = {
    "transformers": ("config", "text"),
    "vllm": ("config", "text", "compression", "hf_quant"),
    "sglang": ("config", "text", "compression", "hf_quant"),
    "tensorrt-llm": ("hf_quant", "config", "text"),
    "llama.cpp": ("config", "text"),
    "neuron": ("neuron",),
}

_CONVERT, _IGNORE = ("modules_to_not_convert",), ("ignore",)
_BOTH = ("ignored_layers", "modules_to_not_convert")
# (reader, family of method) -> keys, the first that has entries counts.
_KEYS: dict[tuple[str, str], tuple[str, ...]] = {
    ("transformers", "fp8"): ("modules_to_not_convert", "ignored_layers"), ("transformers", "mxfp8"): ("modules_to_not_convert", "ignored_layers"),
    ("transformers", "fbgemm_fp8"): _CONVERT, ("transformers", "awq"): _CONVERT, ("transformers", "mxfp4"): _CONVERT,
    ("transformers", "bitnet"): _CONVERT,
    ("transformers", "compressed-tensors"): _IGNORE, ("transformers", "bitsandbytes"): ("llm_int8_skip_modules",),
    ("transformers", "gptq"): ("dynamic",),
    ("transformers", "torchao"): _CONVERT,
    ("vllm", "fp8"): _BOTH, ("vllm", "mxfp8"): _BOTH, ("vllm", "fbgemm_fp8"): _CONVERT, ("vllm", "awq"): _CONVERT, ("vllm", "mxfp4"): _BOTH,
    ("vllm", "compressed-tensors"): _IGNORE, ("vllm", "quark"): ("exclude",), ("vllm", "gptq"): ("dynamic",),
    ("vllm", "bitsandbytes"): ("llm_int8_skip_modules",), ("vllm", "torchao"): _CONVERT,
    ("sglang", "fp8"): _BOTH, ("sglang", "mxfp8"): _BOTH, ("sglang", "awq"): _CONVERT, ("sglang", "mxfp4"): _BOTH,
    ("sglang", "compressed-tensors"): _IGNORE,
    ("sglang", "quark"): ("exclude",), ("sglang", "gptq"): ("dynamic",),
    ("tensorrt-llm", "fp8"): _CONVERT, ("tensorrt-llm", "mxfp4"): _CONVERT, ("tensorrt-llm", "compressed-tensors"): _IGNORE,
    ("neuron", "neuron"): _CONVERT,
}

# Methods of each reader, as it compares them: names of several stored versions together, so that no version's method is called unknown.
# transformers 5.23.0 quantizers/auto.py; vLLM and SGLang layers/quantization/__init__.py; TensorRT-LLM main _torch/model_config.py
# `load_hf_quant_config`; llama.cpp master conversion/base.py `dequant_model`.
METHODS: dict[str, tuple[str, ...]] = {
    "transformers": ("awq", "gptq", "aqlm", "quanto", "quark", "fouroversix", "fp_quant", "eetq", "higgs", "hqq", "compressed-tensors", "fbgemm_fp8",
                     "torchao", "bitnet", "vptq", "spqr", "fp8", "gguf", "nvfp4", "mxfp8", "auto-round", "mxfp4", "metal", "sinq", "gemma",
                     "bitsandbytes"),
    "vllm": ("aqlm", "deepspeedfp", "ptpc_fp8", "deepgemm_fp8", "marlin", "qqq", "neuron_quant", "awq", "awq_marlin", "auto_awq", "fp8", "fbgemm_fp8",
             "fp_quant", "modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed", "gguf",
             "gptq", "gptq_marlin", "gptq_marlin_24", "auto_gptq", "gptq_bitblas", "bitblas", "compressed-tensors", "bitsandbytes", "experts_int8",
             "quark",
             "moe_wna16", "torchao", "auto-round", "inc", "rtn", "mxfp4", "gpt_oss_mxfp4", "mxfp8", "petit_nvfp4", "hqq", "ipex", "tpu_int8"),
    "sglang": ("aqlm", "deepspeedfp", "marlin", "gptq_marlin_24", "qqq", "experts_int8", "tpu_int8", "fp8", "mxfp8", "blockwise_int8", "modelopt",
               "modelopt_fp8", "modelopt_fp4", "modelopt_mixed", "w8a8_int8", "w8a8_fp8", "awq",
               "awq_marlin",
               "bitsandbytes", "gguf", "gptq", "gptq_marlin", "moe_wna16", "compressed-tensors", "qoq", "w4afp8", "petit_nvfp4", "fbgemm_fp8",
               "quark",
               "auto-round", "modelslim", "mxfp4", "torchao", "quark_int4fp8_moe"),
    "tensorrt-llm": ("fp8", "mxfp4", "modelopt", "compressed-tensors", "mxfp8", "awq", "gptq", "w4afp8"),
    "llama.cpp": ("bitnet", "fp8", "gptq", "compressed-tensors", "modelopt", "mxfp4", "fbgemm_fp8"),
}

UNKNOWN: dict[str, str] = {
    "transformers": "Unknown quantization type, got {method} - supported types are: […]. Hence, we will skip the quantization.",
    "vllm": "ValueError: Unknown quantization method: {method}. Must be one of […].",
    "sglang": "ValueError: Unknown quantization method: {method}. Must be one of […].",
    "tensorrt-llm": "no error: the method is not read, the codes are loaded as if they were values",
    "llama.cpp": "NotImplementedError: Quant method is not yet supported: '{method}'",
}


def list_keys(runtime: str, family: str, place: str) -> tuple[str, ...]:
    """Keys in which `runtime` reads the skip list of this method; none where it reads no list."""
    if family == "modelopt":
        return () if runtime in ("transformers", "llama.cpp") else ("exclude_modules",) if place == "hf_quant" else ("ignore", "exclude_modules")
    return _KEYS.get((runtime, family), ())


def read_by(found: tuple[Stated, ...], runtime: str) -> Stated | None:
    """The claim that `runtime` reads, or None."""
    for place in PLACES[runtime]:
        for claim in found:
            if claim.place == place:
                return claim
    return None


def skip_list_of(claim: Stated, runtime: str) -> tuple[str, tuple[str, ...]]:
    """(key, entries) of the list that `runtime` reads in `claim`; the key is what it would read where there is none."""
    keys = list_keys(runtime, claim.family, claim.place)
    for key in keys:
        if claim.lists.get(key) or (key in claim.lists and key == keys[-1]):
            return key, claim.lists[key]
    return (keys[0] if keys else ""), ()


def unread_lists(claim: Stated, runtime: str) -> dict[str, tuple[str, ...]]:
    """Lists with entries that stand in the claim under keys that `runtime` does not read for this method."""
    keys = list_keys(runtime, claim.family, claim.place)
    return {key: entries for key, entries in claim.lists.items() if entries and key not in keys}

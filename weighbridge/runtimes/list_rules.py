"""Which skip-list rule a reader uses for which family of claims, and which modules it never builds quantized, listed or not."""

from __future__ import annotations

# (runtime, family of method) -> the row of `skip.RULES` that matches its list. What is not here has no list, or one that is not known.
RULE_OF: dict[tuple[str, str], str] = {
    ("transformers", "fp8"): "transformers", ("transformers", "mxfp8"): "transformers", ("transformers", "fbgemm_fp8"): "transformers",
    ("transformers", "awq"): "transformers", ("transformers", "mxfp4"): "transformers", ("transformers", "compressed-tensors"): "compressed-tensors",
    ("vllm", "fp8"): "vllm-fp8", ("vllm", "mxfp8"): "vllm-fp8", ("vllm", "fbgemm_fp8"): "vllm-fp8", ("vllm", "mxfp4"): "vllm-fp8",
    ("vllm", "compressed-tensors"): "vllm-compressed-tensors", ("vllm", "modelopt"): "vllm-modelopt", ("vllm", "awq"): "vllm-awq",
    ("vllm", "quark"): "vllm-quark", ("vllm", "gptq"): "gptq-dynamic", ("sglang", "gptq"): "gptq-dynamic",
    ("sglang", "fp8"): "sglang", ("sglang", "mxfp8"): "sglang", ("sglang", "mxfp4"): "sglang", ("sglang", "awq"): "vllm-awq",
    ("sglang", "compressed-tensors"): "vllm-compressed-tensors", ("sglang", "modelopt"): "sglang-modelopt",
    ("tensorrt-llm", "fp8"): "tensorrt-llm", ("tensorrt-llm", "mxfp4"): "tensorrt-llm", ("tensorrt-llm", "modelopt"): "tensorrt-llm",
    ("tensorrt-llm", "compressed-tensors"): "tensorrt-llm",
    ("neuron", "neuron"): "neuron",
}

# Routers that vLLM builds as a layer which its quantization may take (models/qwen3_moe.py, qwen3_next.py: `quant_config=quant_config`).
VLLM_ROUTERS = frozenset({"qwen3_moe", "qwen3_next", "qwen3_vl_moe", "qwen3_5_moe"})
PLAIN_ROUTERS = frozenset({"minimax_m2", "mixtral", "deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_k25", "glm4_moe", "gpt_oss", "mimo_v2",
                           "mimo_v2_flash", "qwen2_moe"})
# Linear layers that vLLM and SGLang build without the checkpoint's quantization.
_PLAIN_LEAVES = frozenset({"shared_expert_gate", "weights_proj", "eh_proj"})
ROUTER, HEAD, DRAFT = "router", "lm_head", "mtp"


def role_of(path: str) -> str:
    """The role of a module that is not quantized, by its last word, where nobody says it."""
    parent, _, leaf = path.rpartition(".")
    if leaf == "lm_head" or parent.endswith("shared_head"):
        return HEAD
    return ROUTER if leaf == "router" or (leaf == "gate" and parent.endswith(("mlp", "moe", "ffn"))) else ""


def never_quantized(runtime: str, family: str, model_type: str, path: str, role: str = "") -> bool:
    """Whether the reader surely leaves the module unquantized where no list names it. False where it does not, or where nobody knows.

    Sources: those of `check.skip_build`, whose answer also has a third value; transformers 5.24 builds no draft layer and no router as a Linear.
    """
    leaf, role = path.rpartition(".")[2], role or role_of(path)
    if family == "mxfp4":
        return ".experts" not in path
    if family == "gptq" and role == HEAD:
        return True  # the key `lm_head` says it
    if runtime == "transformers":
        return role in (ROUTER, DRAFT)
    if runtime not in ("vllm", "sglang"):
        return False
    if leaf in _PLAIN_LEAVES:
        return True
    if role == HEAD:
        return family in ("fp8", "compressed-tensors", "awq")
    if role == ROUTER:
        return model_type in PLAIN_ROUTERS or (runtime == "sglang" and model_type in VLLM_ROUTERS)
    return False

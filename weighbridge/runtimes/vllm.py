"""vLLM: how each of its quantization methods matches skip lists.

vLLM gives the layers that it fuses other names than the checkpoint (`qkv_proj`, `gate_up_proj`, one `experts` for all): the functions
here take one part's name, and `skip.resolve` looks whether the parts agree. Read in a stored main branch without a release
number, files below vllm/model_executor/layers/quantization/.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from weighbridge.runtimes import FUSED, regex

SPLIT = "Detected some but not all shards of {prefix} are quantized. All shards of fused layers to have the same precision."
SPLIT_COMPRESSED_TENSORS = "Found different quantization schemes for the shards of {prefix}. vLLM requires all to use the same scheme."


def matches_fp8(entry: str, module: str) -> bool:
    """The entry is the whole path. For experts the entry holds the path: one listed expert skips all, as vLLM asks once for `experts`.

    Read in utils/quant_utils.py `is_layer_skipped` without `skip_with_substr`, as fp8.py calls it.
    """
    if "experts" in module and module.rpartition(".")[2] not in FUSED:
        return "experts" in entry and module in entry
    return entry == module


def matches_compressed_tensors(entry: str, module: str) -> bool:
    """The entry is the whole path; or `re:` and a regular expression for the start of the path.

    Read in compressed_tensors/utils.py `should_ignore_layer` and `is_equal_or_regex_match`. Class names count for `targets` there, not
    for `ignore`. vLLM compiles with the `regex` package, which differs from `re` in rare signs only.
    """
    return regex(entry, entry[3:], module) if entry.startswith("re:") else entry == module


def matches_modelopt(entry: str, module: str) -> bool:
    """The entry is the whole path, or any part of its text, or a shell pattern (`*`, `?`, `[…]`) for the whole path.

    Read in modelopt.py `ModelOptQuantConfigBase.is_layer_excluded`; the part-of-text rule is kept there for lists from ModelOpt before 0.39.
    """
    return matches_fp8(entry, module) or entry in module or fnmatchcase(module, entry)


def matches_quark(entry: str, module: str) -> bool:
    """The entry is the whole path, or `re:` and a regular expression, or (since vllm-project/vllm#48606) a shell pattern for the whole path.

    Read in quark/utils.py `should_ignore_layer`; Quark itself writes shell patterns.
    """
    return matches_compressed_tensors(entry, module) or (not entry.startswith("re:") and fnmatchcase(module, entry))


def matches_gptq_dynamic(entry: str, module: str) -> bool:
    """The entry (a key of `dynamic` without its `-:`) is a regular expression for the start of the path.

    Read in utils/gptq_utils.py `get_dynamic_override`; GPTQModel's QuantizeConfig.dynamic_get does the same.
    """
    return regex(entry, entry, module)


def matches_awq(entry: str, module: str) -> bool:
    """The entry is any part of the path's text.

    Read in awq.py (`is_layer_skipped` with `skip_with_substr=True`) and in AutoAWQ's utils/module.py `exclude_layers_to_not_quantize`.
    """
    return entry in module


def name(path: str, model_type: str, multimodal: bool = False) -> str:
    """The path of a stored module in vLLM's module tree; experts of one layer are one module, `….experts`.

    MiniMaxM2DecoderLayer gives its experts the prefix `….mlp` although the attribute is `block_sparse_moe` (models/minimax_m2.py).
    Classes of Qwen's multimodal models put the towers first (models/qwen2_5_vl.py, qwen3_vl.py `hf_to_vllm_mapper`).
    """
    if model_type == "minimax_m2":
        path = path.replace(".block_sparse_moe.", ".mlp.")
    return renamed(path, multimodal)


def renamed(entry: str, multimodal: bool) -> str:
    """A path or an entry after vLLM's map of prefixes, which looks at the start of the text only: `re:` entries stay as they are."""
    if not multimodal:
        return entry
    for old, new in (("model.language_model.", "language_model.model."), ("model.visual.", "visual."), ("lm_head.", "language_model.lm_head.")):
        if entry.startswith(old):
            return new + entry[len(old):]
    return "language_model.lm_head" if entry == "lm_head" else entry

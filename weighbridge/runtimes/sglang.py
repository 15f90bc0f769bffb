"""SGLang: how it matches the skip lists of fp8 and of ModelOpt checkpoints."""

from __future__ import annotations

from weighbridge.runtimes import FUSED, regex

# Parts of fused latent attention: an entry that ends in one of them names this part of every layer.
_LATENT_PARTS = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj")


def matches(entry: str, module: str) -> bool:
    """The entry is one or more whole segments of the dotted path, anywhere in it. For experts it may also hold the path.

    Read in sglang after pull request 23467, python/sglang/srt/layers/quantization/utils.py `_module_path_match` and `is_layer_skipped`;
    before, any part of the text matched. The dots at the end of an entry (`model.layers.0.`) are dropped since a later
    version, which is followed here.
    """
    if f".{entry.rstrip('.')}." in f".{module.rstrip('.')}.":
        return True
    return "experts" in module and "gate_up_proj" not in module and "experts" in entry and module in entry


def matches_before_23467(entry: str, module: str) -> bool:
    """The entry is any part of the path's text: `is_layer_skipped` of the same file before pull request 23467."""
    return entry in module


def spelled(entries: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Entry -> what SGLang makes of it: each one with and without `model.` (fp8.py `Fp8Config.from_config`)."""
    return {entry: (entry.removeprefix("model."), "model." + entry.removeprefix("model.")) for entry in entries}


def excluded(entry: str, module: str) -> bool:
    """ModelOpt's second look, at the layer as SGLang has it: a pattern with `*` for the whole path or for one segment, or a part of latent attention.

    Read in a stored main branch, layers/quantization/modelopt_quant.py `ModelOptQuantConfig.is_layer_excluded`. All signs but `.` and `*` are those
    of a regular expression. An entry whose last word is `kv_b_proj`, say, names that layer whatever stands before it. `language_model.` at the start
    of a path may be absent from the entry.
    """
    pattern = entry.replace(".", r"\.").replace("*", ".*")
    last = entry.rpartition(".")[2]
    for path in dict.fromkeys((module, module.removeprefix("language_model."))):
        if regex(entry, pattern, path, whole=True):
            return True
        if "." not in entry and any(regex(entry, pattern, segment, whole=True) for segment in path.split(".")):
            return True
        if last in _LATENT_PARTS and last in path.rpartition(".")[2]:
            return True
    return False


def matches_modelopt(entry: str, module: str) -> bool:
    """Whole segments as in an fp8 list, or what `excluded` says. Experts meet the second look alone."""
    expert = "experts" in module.split(".")
    return excluded(entry, module) or (not expert and matches(entry, module))


def fused_name(part: str) -> str:
    """The name of the layer that SGLang joins a part to, or nothing."""
    name = next((name for name, parts in FUSED.items() if part in parts), "")
    return "fused_qkv_a_proj_with_mqa" if name == "fused_qkv_a_proj" else name

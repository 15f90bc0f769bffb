"""SGLang: how it matches the skip list of an fp8 checkpoint."""

from __future__ import annotations


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

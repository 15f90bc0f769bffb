"""What is asked of the key/value cache, and which scales for it lie in the files."""

from __future__ import annotations

from typing import Any

from weighbridge.check.case import Case

ENDINGS = ("k_scale", "v_scale", "kv_scale", "k_proj.output_scale", "v_proj.output_scale")


def scale_names(case: Case) -> list[str]:
    """Tensors that scale keys or values, in all spellings. A key's names stand together, so few endings are looked at."""
    found = []
    for name, key in case.survey.keys.items():
        if name.endswith(ENDINGS):
            found += key.names or [name]
    return found


def asked(case: Case) -> tuple[str, str]:
    """(dtype of the cache, who asks): the user, or a claim of the files. Empty where nobody does."""
    said = case.settings.kv_cache_dtype.lower()
    if said:
        return said, case.settings.where("kv_cache_dtype")
    for place, claim in (("config.json: quantization_config", case.config.get("quantization_config")),
                         ("config.json: text_config.quantization_config", case.text_config.get("quantization_config")),
                         ("hf_quant_config.json: quantization", _quick(case.checkpoint, "hf_quant_config.json").get("quantization"))):
        if not isinstance(claim, dict):
            continue
        scheme, algo = claim.get("kv_cache_scheme"), claim.get("kv_cache_quant_algo")
        if isinstance(algo, str) and algo:
            return algo.lower(), f"{place}.kv_cache_quant_algo"
        if isinstance(scheme, dict) and scheme.get("dynamic") is not True and scheme.get("num_bits") in (4, 8):
            return ("fp8" if scheme.get("num_bits") == 8 else "nvfp4"), f"{place}.kv_cache_scheme"
    return "", ""


def _quick(checkpoint: Any, file: str) -> dict[str, Any]:
    from weighbridge.errors import WeighbridgeError

    try:
        return checkpoint.json(file) or {}
    except WeighbridgeError:
        return {}

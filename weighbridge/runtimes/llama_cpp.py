"""llama.cpp's converter, convert_hf_to_gguf.py: it has no skip list."""

from __future__ import annotations


def matches(entry: str, module: str) -> bool:
    """Never: a weight is dequantized if its scale is in the files, and copied if not.

    Read in conversion/base.py `ModelBase.dequant_model` of a stored master branch (fp8, compressed-tensors, modelopt, GPTQ).
    """
    return False

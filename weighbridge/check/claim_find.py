"""What the headers say of the quantization, in the words of the claims: which encodings, which strategies, which block would explain the scales."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from weighbridge.check.case import Case, per_case
from weighbridge.check.skip_units import units
from weighbridge.checkpoint.dtypes import FP8
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.schemes import SCHEMES
from weighbridge.formats.stated import Stated
from weighbridge.inspection.survey import Key, Pair

TWICE = re.compile(r"^(?:\w+\.)?((?:language_model|model|vision_tower|visual|transformer|base_model|module)(?:\.\w+)?\.)\1")
LAYERS = re.compile(r"(\.layers\.\d+)\.layers\.\d+\.")
BLOCKS = ((128, 128), (64, 64), (256, 256), (32, 32), (1, 128), (1, 64), (1, 32), (1, 16), (128, 64), (64, 128), (128, 1))
# What each method stores. A method that is not here is not judged.
STORES: dict[str, frozenset[str]] = {
    "fp8": frozenset({"fp8", "fp4"}), "fbgemm_fp8": frozenset({"fp8"}), "mxfp8": frozenset({"fp8"}), "mxfp4": frozenset({"mxfp4"}),
    "awq": frozenset({"qweight"}), "gptq": frozenset({"qweight"}), "bitsandbytes": frozenset({"bitsandbytes"}),
}
NAMES = {"fp8": "FP8", "fp4": "packed FP4 (two codes in a byte)", "mxfp4": "MXFP4 blocks", "nvfp4": "NVFP4 (two codes in a byte, FP8 scales)",
         "qweight": "AWQ or GPTQ words (qweight)", "int4-packed": "integers packed in words (weight_packed)", "int8": "INT8",
         "bitsandbytes": "bitsandbytes"}
ALGOS = {"NVFP4": "nvfp4", "W4A16_NVFP4": "nvfp4", "FP8": "fp8", "FP8_PB_WO": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8", "MXFP8": "fp8",
         "W4A8_AWQ": "qweight",
         "W4A16_AWQ": "qweight", "INT8_SQ": "int8"}


class StoredKind(NamedTuple):
    """All weights of one key whose headers are alike: what they are."""

    encoding: str
    key: Key
    pair: Pair
    name: str
    shape: tuple[int, ...]
    scale_shape: tuple[int, ...]


@per_case
def stored(case: Case) -> tuple[StoredKind, ...]:
    """Every kind of quantized weight in the files; `name` is the key, a name without its layer number. Experts are keys of their own."""
    return tuple(_stored(case))


def _stored(case: Case) -> Iterator[StoredKind]:
    for name, key in case.survey.keys.items():
        if key.what == "weight":
            for pair in key.pairs.values():
                if pair.kind.quantized:
                    yield StoredKind(encoding(key, pair), key, pair, name, pair.shape, pair.scale_shape)


def encoding(key: Key, pair: Pair) -> str:
    """What the tensors hold, by their scheme; by the codes alone where no scheme explains them."""
    known = pair.kind.encoding
    if known is None:
        return "fp8" if pair.row.dtype in FP8 else "int8"
    code, element = known.code, ELEMENTS[known.code.element]
    if known.scheme and "bitsandbytes" in SCHEMES[known.scheme].methods:
        return "bitsandbytes"
    if code.suffix == SCHEMES["awq-int4"].code.suffix:
        return "qweight"
    if element.bits == 8 and element.kind == "float":
        return "fp8"
    if element.kind in ("int", "offset"):
        return "int4-packed" if code.packing.packed else "int8"
    if code.suffix == SCHEMES["mxfp4-blocks"].code.suffix:
        return "mxfp4"
    return "fp4" if pair.row.scale_dtype in ("F8_E8M0", "U8") else "nvfp4"


def expected_encodings(claim: Stated) -> frozenset[str]:
    """Encodings that the claim allows; empty where it says too little."""
    if claim.family == "modelopt":
        return frozenset({ALGOS[claim.algo]}) if claim.algo in ALGOS else frozenset()
    if claim.family == "compressed-tensors":
        found = {_of_scheme(s.kind, s.bits, s.fmt) for s in claim.schemes}
        return frozenset() if "" in found else frozenset(found)
    return STORES.get(claim.family, frozenset())


def _of_scheme(kind: str, bits: int, fmt: str) -> str:
    if kind == "float":
        return "fp8" if bits == 8 else "fp4" if fmt.startswith("mxfp4") else "nvfp4" if bits == 4 and fmt.startswith("nvfp4") else ""
    if kind == "int":
        return "int4-packed" if fmt in ("pack-quantized", "marlin-24") else "int8" if bits == 8 and fmt in ("int-quantized",
                                                                                                            "naive-quantized") else ""
    return ""


def codes_without_scale(case: Case) -> bool:
    """Whether any weight is of a dtype that only codes have, scale or not (torchao and others keep scales elsewhere)."""
    return any(t.dtype in FP8 or (t.dtype in ("U8", "I8", "I32", "F4") and len(t.shape) >= 2) for t in case.checkpoint.tensors.values())


def fitting_block(case: Case) -> tuple[int, int] | None:
    """The first usual block whose grid is that of every two-dimensional FP8 scale in the files."""
    shapes = {(s.shape, s.scale_shape) for s in stored(case) if s.encoding == "fp8" and len(s.shape) == 2 and len(s.scale_shape) == 2}
    if not shapes or all(grid[1] == 1 or grid[0] == 1 for _, grid in shapes):
        return None
    return next((b for b in BLOCKS if all((-(-w[0] // b[0]), -(-w[1] // b[1])) == grid for w, grid in shapes)), None)


def plain_linears(case: Case) -> list[str]:
    """Full paths of matrices without codes: heads, routers, projections. Every HF reader understands whole paths."""
    return [u.path for u in units(case) if not u.coded and len(u.first.weight.shape) >= 2
            and u.role.startswith(("lm_head", "router", "attention.", "mlp.", "shared_experts.", "mtp")) and not u.role.endswith(".sinks")]


def main_claim(case: Case) -> Stated | None:
    """The claim that speaks for the files: the first one, NxD's apart."""
    return next((c for c in case.stated if c.place in ("config", "text", "compression", "hf_quant", "quantize")), None)


def nested_twice(name: str) -> bool:
    """Whether a prefix stands in a name twice, one after the other, or a layer within a layer."""
    return TWICE.match(name) is not None or LAYERS.search(name) is not None


def once(name: str) -> str:
    """The name without the repetition."""
    while (found := TWICE.match(name)) is not None:
        start = found.start(1)
        name = name[:start] + name[start + len(found[1]):]
    return LAYERS.sub(r"\1.", name)

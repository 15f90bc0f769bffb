"""One word for each kind of encoding, and a colour for each word."""

from __future__ import annotations

import pytest

from weighbridge.formats.kinds import code_words, kind_of, kind_of_dtype
from weighbridge.formats.scheme import filled, plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.report import palette

KINDS = {"fp8-block": "fp8", "modelopt-nvfp4": "fp4", "mxfp4-dot": "fp4", "ct-int4": "int4", "ct-int8": "int8", "ct-int8-packed": "int8", "ct-int3": "coded",
         "awq-int4": "int4", "gptq-int8": "int8", "bnb-nf4": "fp4", "bnb-int8": "int8", "neuron-fp8": "fp8"}


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_has_a_kind_and_a_colour(name: str) -> None:
    encoding = filled(SCHEMES[name], (128, 128), 128)
    assert kind_of(encoding) in palette.KINDS and kind_of(encoding) == KINDS.get(name, kind_of(encoding))
    assert bool(code_words(encoding)) == encoding.code.packing.packed


@pytest.mark.parametrize(("dtype", "kind"), [("BF16", "bf16"), ("F16", "f16"), ("F32", "f32"), ("F64", "f32"), ("I64", "plain"), ("U8", "plain"), ("BOOL", "plain")])
def test_plain_tensors(dtype: str, kind: str) -> None:
    assert kind_of(plain(dtype)) == kind_of_dtype(dtype) == kind


@pytest.mark.parametrize(("dtype", "quantized", "kind"), [("F8_E5M2", True, "fp8"), ("F4", True, "fp4"), ("F6_E2M3", False, "fp4"), ("U8", True, "coded"), ("ODD", True, "coded")])
def test_codes_of_no_scheme(dtype: str, quantized: bool, kind: str) -> None:
    assert kind_of_dtype(dtype, quantized) == kind
    assert kind in palette.KINDS

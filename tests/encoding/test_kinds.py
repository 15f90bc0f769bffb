"""One word for each kind of encoding, and a colour for each word."""

from __future__ import annotations

import pytest

from weighbridge.encoding.kinds import kind_of
from weighbridge.report import palette


@pytest.mark.parametrize(("dtype", "quantized", "codes", "kind"), [
    ("F8_E4M3", None, 1, "fp8"), ("F8_E5M2", True, 1, "fp8"), ("U8", True, 2, "fp4"), ("I8", True, 1, "int8"), ("I8", True, 2, "fp4"), ("I32", True, 8, "int4"),
    ("I32", True, 4, "int8"), ("BF16", False, 1, "bf16"), ("F16", None, 1, "f16"), ("F32", None, 1, "f32"), ("I64", False, 1, "plain"), ("F4", True, 1, "fp4"),
    ("ODD", True, 1, "coded"),
])
def test_kind_of(dtype: str, quantized: bool | None, codes: int, kind: str) -> None:
    assert kind_of(dtype, quantized, codes) == kind
    assert kind in palette.KINDS

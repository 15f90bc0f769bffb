"""Every spelling in the wild, one row each. `match` picks among them, layouts write them, `explain` shows them.

Axes are stored axes. A row's first suffix, dtype and form are what is written. Sources: `layouts2.md`'s list of readers' code; each group names its own.
"""

from __future__ import annotations

from weighbridge.formats.packing import AWQ_ORDER, HIGH_FIRST, LOW_FIRST, ROW_PAIRS, Packing, dense, ordered, whole
from weighbridge.formats.scheme import BLOCK, GROUP, WHOLE, Field, Form, Role, Scheme

FLOATS = ("F32", "BF16", "F16")
NARROW = ("F16", "BF16", "F32")
BYTES = ("U8", "F8_E8M0")
TENSOR, CHANNEL, BLOCKS, GROUPS = (WHOLE, WHOLE), (1, WHOLE), (BLOCK, BLOCK), (1, GROUP)


def _code(suffix: str, dtype: str, element: str, packing: Packing = whole(8), form: Form = Form.MATRIX) -> Field:
    return Field(Role.CODE, (suffix,), element, (dtype,), packing=packing, forms=(form,))


def _scale(suffix: str, dtypes: tuple[str, ...], block: tuple[int, int], *forms: Form, inner: tuple[Field, ...] = (), role: Role = Role.SCALE,
           over: float = 1.0, flat: bool = False, element: str = "") -> Field:
    return Field(role, (suffix,), element, dtypes, block, whole(32), forms or (Form.MATRIX,), inner, over=over, flat=flat)


def _activation(suffix: str, *more: str, role: Role = Role.ACTIVATION) -> Field:
    """A scale of the layer's input, one for the layer: no part of the weight."""
    return Field(role, (suffix, *more), "", FLOATS, TENSOR, whole(32), (Form.SCALAR, Form.ONE), optional=True)


def _note(suffix: str, dtypes: tuple[str, ...], role: Role = Role.NOTE, form: Form = Form.PAIR) -> Field:
    return Field(role, (suffix,), "int64", dtypes, TENSOR, whole(64), (form,), optional=True)


FP8, PAIRS = _code(".weight", "F8_E4M3", "e4m3fn"), _code(".weight", "U8", "e2m1", LOW_FIRST)
INT8 = _code(".weight", "I8", "int8")
SHAPE = _note(".weight_shape", ("I64", "I32"), Role.SHAPE)

# DeepSeek-V3 `inference/kernel.py`, transformers 5.24 `integrations/finegrained_fp8.py`; `weight_scale_inv` is a multiplier in spite of its name.
HF_FP8 = (
    Scheme("fp8-block", "FP8 with one scale per block", "block", FP8, (_scale(".weight_scale_inv", ("F32", "BF16", "F8_E8M0"), BLOCKS),
                                                                       _activation(".input_scale")), ("fp8",), rule="amax"),
    Scheme("fp8-block-dot", "FP8 with one scale per block, as DeepSeek-V4 spells it", "block", FP8,
           (_scale(".scale", ("F32", "F8_E8M0", "BF16"), BLOCKS),), ("fp8",), rule="amax"),
    Scheme("fp8-block-fused", "FP8 experts in one tensor, one scale per block", "block", _code("", "F8_E4M3", "e4m3fn"),
           (_scale("_scale_inv", ("F32", "BF16", "F8_E8M0"), BLOCKS),), ("fp8",), rule="amax"),
    Scheme("fbgemm-fp8-fused", "FP8 experts in one tensor, stored [in, out], one scale per output, by FBGEMM", "channel", _code("", "F8_E4M3", "e4m3fn"),
           (_scale("_scale", FLOATS, (WHOLE, 1)),), ("fbgemm_fp8",), turned=True),
    Scheme("fp8-block-e5m2", "FP8 E5M2 with one scale per block", "block", _code(".weight", "F8_E5M2", "e5m2"),
           (_scale(".weight_scale_inv", FLOATS, BLOCKS),), ("fp8",)),
    Scheme("fp8-block-fnuz", "FP8 E4M3FNUZ with one scale per block", "block", _code(".weight", "F8_E4M3FNUZ", "e4m3fnuz"),
           (_scale(".weight_scale_inv", FLOATS, BLOCKS),), ("fp8",)),
    Scheme("fp8-tensor-inv", "FP8 with one scale per tensor, as Mistral spells it", "tensor", FP8,
           (_scale(".weight_scale_inv", FLOATS, TENSOR, Form.SCALAR, Form.ONE, Form.SQUARE), _activation(".activation_scale", ".input_scale")), ("fp8",)),
    Scheme("fp8-tensor-qscale", "FP8 with one scale per tensor, as Mistral's consolidated files spell it", "tensor", FP8,
           (_scale(".qscale_weight", FLOATS, TENSOR, Form.SCALAR, Form.ONE), _activation(".qscale_act")), ("fp8",)),
    Scheme("mxfp8-inv", "MXFP8, as MiniMax-M3 spells it", "group", FP8, (_scale(".weight_scale_inv", BYTES, (1, 32)),), ("mxfp8", "fp8")),
    Scheme("mxfp4-dot", "MXFP4 in I8, as DeepSeek-V4 spells it", "group", _code(".weight", "I8", "e2m1", LOW_FIRST),
           (_scale(".scale", ("F8_E8M0", "U8"), (1, 32)),), ("fp8",)),
    Scheme("mxfp4-blocks", "MXFP4 in blocks of 16 bytes, as gpt-oss spells it", "group", _code("_blocks", "U8", "e2m1", LOW_FIRST, Form.SIXTEENS),
           (_scale("_scales", BYTES, (1, 32)),), ("mxfp4",), rule="mx-up"),
    Scheme("int8-block", "INT8 with one scale per block", "block", INT8, (_scale(".weight_scale_inv", FLOATS, BLOCKS),), ("blockwise_int8",)),
    Scheme("w4afp8", "INT4 pairs for FP8 activations", "group", _code(".weight", "I8", "int4", LOW_FIRST),
           (_scale(".weight_scale_inv", FLOATS, GROUPS), _activation(".input_scale")), ("w4afp8",)),
    Scheme("fbgemm-fp8", "FP8 with one scale per row, by FBGEMM", "channel", FP8,
           (_scale(".weight_scale", FLOATS, CHANNEL), _activation(".input_scale_ub")), ("fbgemm_fp8",)),
)

# compressed-tensors 0.20 `compressors/`: all scales multiply, but for NVFP4's global one, which divides.
_GLOBAL = _scale(".weight_global_scale", ("F32",), TENSOR, Form.ONE, Form.SCALAR, role=Role.DIVISOR)
CT = ("compressed-tensors",)
CT_FLOAT = (
    Scheme("ct-fp8-block", "FP8 with one scale per block", "block", FP8,
           (_scale(".weight_scale", FLOATS, BLOCKS), _activation(".input_scale")), CT, rule="ct"),
    Scheme("ct-fp8-channel", "FP8 with one scale per row", "channel", FP8,
           (_scale(".weight_scale", FLOATS, CHANNEL), _activation(".input_scale")), CT, rule="ct"),
    Scheme("ct-fp8-tensor", "FP8 with one scale per tensor", "tensor", FP8,
           (_scale(".weight_scale", FLOATS, TENSOR, Form.ONE, Form.SCALAR, Form.SQUARE), _activation(".input_scale")), CT, rule="ct"),
    Scheme("ct-mxfp8", "MXFP8", "group", FP8, (_scale(".weight_scale", BYTES, (1, 32)),), CT, rule="ct-mx"),
    Scheme("ct-int8", "INT8 with one scale per row", "channel", INT8,
           (_scale(".weight_scale", FLOATS, CHANNEL), _activation(".input_scale"), _note(".input_zero_point", ("I8",), form=Form.ONE)), CT,
           rule="ct"),
    Scheme("ct-int8-tensor", "INT8 with one scale per tensor", "tensor", INT8,
           (_scale(".weight_scale", FLOATS, TENSOR, Form.ONE, Form.SCALAR), _activation(".input_scale")), CT),
    Scheme("ct-nvfp4", "NVFP4 with a divisor for the tensor", "group", _code(".weight_packed", "U8", "e2m1", LOW_FIRST),
           (_scale(".weight_scale", ("F8_E4M3",), (1, 16), inner=(_GLOBAL,)), _activation(".input_global_scale", role=Role.ACTIVATION_DIVISOR)), CT, rule="ct-nvfp4"),
    Scheme("ct-mxfp4", "MXFP4", "group", _code(".weight_packed", "U8", "e2m1", LOW_FIRST), (_scale(".weight_scale", BYTES, (1, 32)),), CT,
           rule="ct-mx"),
)


def _ct_packed(bits: int, zeros: bool, group: bool) -> Scheme:
    """`pack-quantized`: codes along K, zero points along N, both less half of their range."""
    element, block = f"uint{bits}-{1 << bits - 1}", GROUPS if group else CHANNEL
    factors = [_scale(".weight_scale", NARROW, block), SHAPE]
    if zeros:
        factors.append(Field(Role.ZERO, (".weight_zero_point",), element, ("I32",), block, dense(bits, 32, axis=-2)))
    name = f"ct-int{bits}-packed" if bits == 8 else f"ct-int{bits}"
    name += ("" if group else "-channel") + ("-zeros" if zeros else "")
    return Scheme(name, f"INT{bits} in words, one scale per {'group' if group else 'row'}{', with zero points' if zeros else ''}",
                  "group" if group else "channel", _code(".weight_packed", "I32", element, dense(bits)), tuple(factors), CT, rule="ct")


CT_PACKED = tuple(_ct_packed(bits, zeros, group) for bits in (4, 8, 2, 3, 5, 6, 7) for zeros in (True, False) for group in (True, False))

# nvidia-modelopt 0.47 `torch/export/`: the whole-tensor scale of NVFP4 multiplies.
_SECOND = _scale(".weight_scale_2", ("F32",), TENSOR, Form.SCALAR, Form.ONE)
MODELOPT = (
    Scheme("modelopt-fp8", "FP8 with one scale per tensor", "tensor", FP8,
           (_scale(".weight_scale", FLOATS, TENSOR, Form.SCALAR, Form.ONE, Form.SQUARE), _activation(".input_scale")), ("modelopt",), rule="amax"),
    Scheme("modelopt-fp8-channel", "FP8 with one scale per row", "channel", FP8,
           (_scale(".weight_scale", FLOATS, CHANNEL, Form.VECTOR, Form.MATRIX), _activation(".input_scale")), ("modelopt",),
           rule="amax"),
    Scheme("modelopt-fp8-block", "FP8 with one scale per block", "block", FP8,
           (_scale(".weight_scale", FLOATS, BLOCKS, Form.SPACED, Form.MATRIX),), ("modelopt",), rule="amax"),
    Scheme("modelopt-nvfp4", "NVFP4 with a factor for the tensor", "group", PAIRS,
           (_scale(".weight_scale", ("F8_E4M3",), (1, 16), inner=(_SECOND,)), _activation(".input_scale")), ("modelopt",),
           rule="modelopt-nvfp4"),
    Scheme("modelopt-mxfp8", "MXFP8", "group", FP8, (_scale(".weight_scale", BYTES, (1, 32)),), ("modelopt",), rule="modelopt-mx"),
    Scheme("modelopt-mxfp4", "MXFP4", "group", PAIRS, (_scale(".weight_scale", BYTES, (1, 32)),), ("modelopt",)),
    Scheme("modelopt-int8", "INT8 with one scale per row", "channel", INT8, (_scale(".weight_scale", FLOATS, CHANNEL, Form.VECTOR),), ("modelopt",)),
    Scheme("modelopt-int4", "INT4, two rows in a byte", "group", _code(".weight", "U8", "int4", ROW_PAIRS),
           (_scale(".weight_scale", FLOATS, GROUPS),), ("modelopt",)),
)

# amd-quark 0.13 `export/`: FP8 as ModelOpt writes it, MXFP4 under `weight`.
QUARK = (
    Scheme("quark-fp8", "FP8 with one scale per tensor", "tensor", FP8,
           (_scale(".weight_scale", FLOATS, TENSOR, Form.SCALAR, Form.ONE), _activation(".input_scale")), ("quark",), rule="amax"),
    Scheme("quark-fp8-channel", "FP8 with one scale per row", "channel", FP8,
           (_scale(".weight_scale", FLOATS, CHANNEL, Form.VECTOR, Form.MATRIX), _activation(".input_scale")), ("quark",), rule="amax"),
    Scheme("quark-mxfp4", "MXFP4", "group", PAIRS, (_scale(".weight_scale", BYTES, (1, 32)),), ("quark",)),
)


def _gptq(bits: int, version: int) -> Scheme:
    """gptqmodel 7.7: words along K, zero points along N; version 1 stores a zero point less one."""
    zero = Field(Role.ZERO, (".qzeros",), f"uint{bits}+1" if version == 1 else f"uint{bits}", ("I32",), (GROUP, 1), dense(bits))
    order = Field(Role.ORDER, (".g_idx",), "int32", ("I32",), (1, WHOLE), whole(32), (Form.VECTOR,), optional=True)
    return Scheme(f"gptq-int{bits}" + ("" if version == 2 else "-v1"), f"GPTQ INT{bits}, version {version}: words of input channels", "group",
                  _code(".qweight", "I32", f"uint{bits}", dense(bits, axis=-2)), (_scale(".scales", NARROW, (GROUP, 1)), zero, order),
                  ("gptq_v2",) if version == 2 else ("gptq",), turned=True, rule="gptq" if version == 2 else "")


WORDS = (
    *(_gptq(bits, version) for bits in (4, 8, 2, 3) for version in (2, 1)),
    Scheme("awq-int4", "AWQ INT4: words of output channels in AWQ's order", "group", _code(".qweight", "I32", "uint4", ordered(4, AWQ_ORDER)),
           (_scale(".scales", NARROW, (GROUP, 1)), Field(Role.ZERO, (".qzeros",), "uint4", ("I32",), (GROUP, 1), ordered(4, AWQ_ORDER))),
           ("awq",), turned=True, rule="awq"),
)


def _bitsandbytes(book: str, nested: bool) -> Scheme:
    """bitsandbytes 0.50 `functional.py`: 64 values in a row share one absmax; nested, 256 of these share one, about an offset."""
    absmax = _scale(".weight.absmax", ("F32",), (1, 64), Form.VECTOR, flat=True)
    notes = [_note(".weight.quant_map", ("F32",)), _note(f".weight.quant_state.bitsandbytes__{book}", ("U8",))]
    if nested:
        inner = _scale(".weight.nested_absmax", ("F32",), (1, 256), Form.VECTOR, flat=True)
        mean = Field(Role.OFFSET, (notes[1].suffix,), "nested_offset", ("U8",), TENSOR)  # a number of the JSON text, under this key
        absmax = _scale(".weight.absmax", ("U8",), (1, 64), Form.VECTOR, flat=True, inner=(inner, mean), element="dynamic8")
        notes.append(_note(".weight.nested_quant_map", ("F32",)))
    return Scheme(f"bnb-{book}" + ("-nested" if nested else ""), f"bitsandbytes {book.upper()}: a codebook over 64 values in a row", "group",
                  _code(".weight", "U8", book, HIGH_FIRST, Form.FLAT)._replace(flat=True), (absmax, *notes), ("bitsandbytes",))


BITSANDBYTES = (
    *(_bitsandbytes(book, nested) for book in ("nf4", "fp4") for nested in (False, True)),
    Scheme("bnb-int8", "bitsandbytes INT8: a row's largest magnitude over 127", "channel", INT8,
           (_scale(".SCB", ("F32",), CHANNEL, Form.VECTOR, over=127.0), _note(".weight_format", ("U8",), form=Form.SCALAR)), ("bitsandbytes",)),
)

# NxD Inference 0.18: Neuron's E4M3 ends at 240; its bytes up to there mean the same as E4M3FN's. The block is in stored axes.
NEURON = (Scheme("neuron-fp8", "FP8 up to 240 with one scale per block", "block", _code(".weight", "F8_E4M3", "e4m3"),
                 (_scale(".scale", ("F32", "BF16"), BLOCKS),), ("neuron",), padded=True, rule="amax"),)

CENTRED = frozenset({"gptq"})  # rules that put every zero point in the middle of its range

SCHEMES: dict[str, Scheme] = {s.name: s for s in (*HF_FP8, *CT_FLOAT, *CT_PACKED, *MODELOPT, *QUARK, *WORDS, *BITSANDBYTES, *NEURON)}

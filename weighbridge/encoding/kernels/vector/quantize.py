from ..portable.quantize import quantize_bf16, quantize_f32  # noqa: F401

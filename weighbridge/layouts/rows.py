"""Every layout that can be written, one row each: its schemes, options, the shapes that it can hold, and who loads it.

Who loads what: `yes` and `no` were read in the reader's source or seen; what nobody looked at has no row, and is *unknown*. Versions that were read:
vLLM 0.33.0, SGLang 0.5.23, transformers 5.24.0, compressed-tensors 0.20.0, nvidia-modelopt 0.47.0, mlx-lm 0.32.2, llama.cpp's conversion/ and
TensorRT-LLM's main branches of autumn 2026.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from weighbridge.errors import Usage
from weighbridge.formats.scheme import Encoding, Role
from weighbridge.formats.schemes import SCHEMES

READERS = ("vllm", "sglang", "transformers", "tensorrt-llm", "llama.cpp", "mlx", "neuron")


class Loads(NamedTuple):
    """What one reader does with a layout.

    `least` is the smallest CUDA compute capability (89 is 8.9) that the reader's code demands, 0 where none is known.
    """

    reader: str
    loads: str  # yes, no
    condition: str = ""
    source: str = ""
    least: int = 0


class LayoutRow(NamedTuple):
    """One layout. `schemes` are rows of `formats.schemes.SCHEMES`, the usual one first; `writer` is the file in `layouts/configs/`.

    `family` is the claim's method, empty where there is none. `block`, `group`, `scale_dtype` are defaults (None, 0 and "" where there is no choice);
    for packed integers the scale dtype is that of a BF16 model: it follows the model's.
    `activations`: which scales of activations it can do: `none`, `dynamic`, `static`; the first is written unless static ones are given.
    """

    name: str
    says: str
    schemes: tuple[str, ...]
    writer: str
    family: str
    options: tuple[str, ...] = ()
    block: tuple[int, int] | None = None
    group: int = 0
    scale_dtype: str = ""
    activations: tuple[str, ...] = ("none",)
    readers: tuple[Loads, ...] = ()

    def reader(self, name: str) -> Loads | None:
        """What is known of a reader; None where nothing is."""
        return next((r for r in self.readers if r.reader == name), None)


def _yes(reader: str, condition: str = "", source: str = "", least: int = 0) -> Loads:
    return Loads(reader, "yes", condition, source, least)


def _no(reader: str, condition: str, source: str) -> Loads:
    return Loads(reader, "no", condition, source)


_CT_VLLM, _CT_SGLANG = "vLLM 0.33.0, compressed_tensors.py", "SGLang 0.5.23, compressed_tensors/"
_CT_TRT = "TensorRT-LLM main, quant_config_utils.py"
_TF_CT = "transformers 5.24.0 with compressed-tensors 0.20.0; seen"
_CT_TF = _yes("transformers", "with compressed-tensors installed", _TF_CT)
_CT_TF_DENSE = _yes("transformers", "with compressed-tensors installed; no experts: their weights do not load", _TF_CT)
_CT, _MODELOPT = ("compressed_tensors", "compressed-tensors"), ("modelopt", "modelopt")  # writer and family of the claim
_MO_VLLM, _MO_SGLANG, _MO_TRT = "vLLM 0.33.0, modelopt.py", "SGLang 0.5.23, modelopt_quant.py", "TensorRT-LLM main, _torch/model_config.py"
_GGUF, _MLX = "llama.cpp main, conversion/base.py", "mlx-lm 0.32.2, utils.py"
_NXD = _no("neuron", "its compiler takes no E4M3 above 240, and NxD knows scales as `.scale`; convert to neuron",
           "AWS Neuron NCC_EVRF051, NxDI application_base.py")
_TF_MODELOPT = _no("transformers", "it does not know the method, skips the quantization and takes the codes for values",
                   "transformers 5.24.0, quantizers/auto.py")
_CT_MLX = _no("mlx", "of compressed-tensors it takes nvfp4, mxfp4 and pack-quantized", _MLX)
_CT_ONE = "one group of the claim, not several; values are decoded"
_SHARED_CUT = "rows of every part of a joined layer but the last are a multiple of the block"


def _plain(*more: Loads) -> tuple[Loads, ...]:
    readers = ("vllm", "sglang", "transformers", "llama.cpp", "mlx")
    return (*(_yes(reader, "", "known from use, not read for this table") for reader in readers), *more)


ROWS: dict[str, LayoutRow] = {r.name: r for r in (
    LayoutRow("hf-bf16", "every weight in BF16, under the published names", (), "plain", "", ("--keep-scales",), readers=_plain(
        _yes("neuron", "through its port of the model, which renames the tensors itself", "NxDI, contrib ports"))),
    LayoutRow("hf-f16", "every weight in F16, under the published names", (), "plain", "", ("--keep-scales",), readers=_plain()),
    LayoutRow("hf-fp8", "FP8 with one scale per block, as the makers publish it", ("fp8-block", "fp8-block-dot", "fp8-block-fused", "mxfp4-dot"),
              "fp8", "fp8", ("--block", "--scale-dtype"), (128, 128), 0, "F32", ("dynamic",), (
        _yes("vllm", f"{_SHARED_CUT}; 32x32 blocks in DeepSeek-V4.1 alone; scales are rounded to powers of two on Blackwell", "vLLM 0.33.0, fp8.py"),
        _yes("sglang", f"{_SHARED_CUT}; scales are rounded to powers of two on Blackwell; LlamaForCausalLM drops all block scales in silence "
             "(sgl-project/sglang#30234)", "SGLang 0.5.23, fp8.py"),
        _yes("transformers", "decoded on a CPU; a short last block is decoded wrong in silence (WB409)",
             "transformers 5.24.0, integrations/finegrained_fp8.py; seen"),
        _yes("tensorrt-llm", "", "TensorRT-LLM main, _torch/model_config.py"),
        _yes("llama.cpp", "values are decoded", _GGUF), _yes("mlx", "values are decoded", "mlx-lm 0.32.2, models/"), _NXD)),
    LayoutRow("hf-mxfp4", "MXFP4 experts in one tensor for each layer, as gpt-oss has them", ("mxfp4-blocks",), "mxfp4", "mxfp4",
              (), None, 32, "U8", ("none",), (
        _yes("vllm", "model_type gpt_oss alone", "vLLM 0.33.0, mxfp4.py"), _yes("sglang", "", "SGLang 0.5.23, mxfp4.py"),
        _yes("transformers", "", "transformers 5.24.0, integrations/mxfp4.py"), _yes("tensorrt-llm", "", "TensorRT-LLM main, _torch/model_config.py"),
        _yes("llama.cpp", "bytes are repacked, not rounded", "llama.cpp main, conversion/"),
        _yes("mlx", "bytes are repacked, not rounded", "mlx-lm 0.32.2, models/gpt_oss.py"))),
    LayoutRow("ct-fp8-tensor", "compressed-tensors, FP8 with one scale per tensor", ("ct-fp8-tensor",), *_CT,
              ("--scale-dtype", "--activation-scales"), None, 0, "F32", ("dynamic", "static"), (
        _yes("vllm", "", _CT_VLLM), _yes("sglang", "", _CT_SGLANG), _CT_TF,
        _no("tensorrt-llm", "of compressed-tensors' FP8 it takes channels and blocks", _CT_TRT), _CT_MLX, _NXD)),
    LayoutRow("ct-fp8-channel", "compressed-tensors, FP8 with one scale per row (FP8_DYNAMIC)", ("ct-fp8-channel",), *_CT,
              ("--scale-dtype", "--activation-scales"), None, 0, "F32", ("dynamic", "static"), (
        _yes("vllm", "", _CT_VLLM), _yes("sglang", "", _CT_SGLANG), _CT_TF,
        _yes("tensorrt-llm", "with activations per token; a version that reads `re:` entries", _CT_TRT),
        _yes("llama.cpp", _CT_ONE, _GGUF), _CT_MLX, _NXD)),
    LayoutRow("ct-fp8-block", "compressed-tensors, FP8 with one scale per block (FP8_BLOCK)", ("ct-fp8-block",), *_CT,
              ("--block", "--scale-dtype"), (128, 128), 0, "F32", ("dynamic",), (
        _yes("vllm", f"{_SHARED_CUT}; a rank's width of experts, too", "vLLM 0.33.0, compressed_tensors.py; seen in 0.32.0"),
        _yes("sglang", "on Blackwell F32 scales gave NaN (sgl-project/sglang#28662)", _CT_SGLANG), _CT_TF_DENSE,
        _yes("tensorrt-llm", "a version that reads `re:` entries", _CT_TRT), _yes("llama.cpp", _CT_ONE, _GGUF), _CT_MLX, _NXD)),
    LayoutRow("ct-int8", "compressed-tensors, INT8 with one scale per row (W8A8)", ("ct-int8",), *_CT,
              ("--scale-dtype", "--activation-scales"), None, 0, "F32", ("dynamic", "static"), (
        _yes("vllm", "", _CT_VLLM), _yes("sglang", "", _CT_SGLANG), _CT_TF_DENSE,
        _no("tensorrt-llm", "it looks at bits and strategy, not at the type: INT8 is announced as FP8", _CT_TRT),
        _yes("llama.cpp", _CT_ONE, _GGUF), _CT_MLX)),
    LayoutRow("ct-int4", "compressed-tensors, INT4 in words, one scale per group (W4A16)", ("ct-int4", "ct-int4-zeros"), *_CT,
              ("--group", "--zero-points", "--scale-dtype"), None, 128, "BF16", ("none",), (
        _yes("vllm", "sizes that Marlin can tile (64, 128); zero points in experts since 0.33", _CT_VLLM), _yes("sglang", "", _CT_SGLANG),
        _yes("transformers", "with compressed-tensors installed; experts without zero points alone", _TF_CT),
        _no("tensorrt-llm", "it takes no INT4 of compressed-tensors", _CT_TRT),
        _yes("llama.cpp", _CT_ONE, _GGUF), _yes("mlx", "bytes are repacked, not rounded", _MLX))),
    LayoutRow("ct-nvfp4", "compressed-tensors, NVFP4 (NVFP4A16; NVFP4 with scales of the activations)", ("ct-nvfp4",), *_CT,
              ("--activation-scales",), None, 16, "F8_E4M3", ("none", "static"), (
        _yes("vllm", "joined parts must share the global scale: it warns once and goes on", _CT_VLLM), _yes("sglang", "", _CT_SGLANG),
        _yes("transformers", "with compressed-tensors installed; no experts: their global scale is passed over in silence", _TF_CT),
        _yes("tensorrt-llm", "with scales of the activations alone (W4A4)", _CT_TRT),
        _yes("llama.cpp", f"since ggml-org/llama.cpp#21095; {_CT_ONE.split(';')[0]}; bytes are repacked", _GGUF), _yes("mlx", "", _MLX))),
    LayoutRow("ct-mxfp4", "compressed-tensors, MXFP4 (MXFP4A16)", ("ct-mxfp4",), *_CT, (), None, 32, "U8", ("none",), (
        _yes("vllm", "", _CT_VLLM), _yes("sglang", "", f"{_CT_SGLANG}, schemes/compressed_tensors_w4a16_mxfp4.py"),
        _CT_TF, _yes("tensorrt-llm", "a version that reads `re:` entries", _CT_TRT), _yes("mlx", "", _MLX))),
    LayoutRow("ct-mxfp8", "compressed-tensors, MXFP8", ("ct-mxfp8",), *_CT, (), None, 32, "U8", ("dynamic",), (
        _yes("vllm", "", _CT_VLLM), _CT_TF_DENSE,
        _no("tensorrt-llm", "of compressed-tensors it takes no MXFP8", _CT_TRT), _CT_MLX)),
    LayoutRow("modelopt-fp8", "ModelOpt, FP8 with one scale per tensor and static activations", ("modelopt-fp8",), *_MODELOPT,
              ("--activation-scales",), None, 0, "F32", ("static",), (
        _yes("vllm", "compute capability 8.9 or more", _MO_VLLM, 89), _yes("sglang", "", _MO_SGLANG), _TF_MODELOPT, _yes("tensorrt-llm", "", _MO_TRT),
        _yes("llama.cpp", "values are decoded", _GGUF), _no("mlx", "of ModelOpt it takes NVFP4 alone", _MLX), _NXD)),
    LayoutRow("modelopt-fp8-channel", "ModelOpt, FP8 with one scale per row (FP8_PER_CHANNEL_PER_TOKEN)", ("modelopt-fp8-channel",), *_MODELOPT,
              (), None, 0, "F32", ("dynamic",), (
        _yes("vllm", "compute capability 8.9 or more", _MO_VLLM, 89), _yes("sglang", "", _MO_SGLANG), _TF_MODELOPT, _yes("tensorrt-llm", "", _MO_TRT),
        _yes("llama.cpp", "values are decoded", _GGUF), _no("mlx", "of ModelOpt it takes NVFP4 alone", _MLX), _NXD)),
    LayoutRow("modelopt-fp8-block", "ModelOpt, FP8 with one scale per block of 128x128 (FP8_PB_WO)", ("modelopt-fp8-block",), *_MODELOPT,
              (), (128, 128), 0, "F32", ("dynamic",), (
        _yes("vllm", "compute capability 8.9 or more; input channels are a multiple of 128", _MO_VLLM, 89), _yes("sglang", "", _MO_SGLANG),
        _TF_MODELOPT, _yes("tensorrt-llm", "", _MO_TRT), _no("mlx", "of ModelOpt it takes NVFP4 alone", _MLX), _NXD)),
    LayoutRow("modelopt-nvfp4", "ModelOpt, NVFP4 (W4A16_NVFP4; NVFP4 with scales of the activations)", ("modelopt-nvfp4",), *_MODELOPT,
              ("--activation-scales",), None, 16, "F8_E4M3", ("none", "static"), (
        _yes("vllm", "joined parts must share weight_scale_2: it warns once and goes on", _MO_VLLM), _yes("sglang", "", _MO_SGLANG), _TF_MODELOPT,
        _yes("tensorrt-llm", "", _MO_TRT), _yes("llama.cpp", "bytes are repacked, not rounded", _GGUF),
        _no("mlx", "it ignores weight_scale_2, but for joined experts: values are off by that factor", _MLX))),
    LayoutRow("modelopt-mxfp8", "ModelOpt, MXFP8", ("modelopt-mxfp8",), *_MODELOPT, (), None, 32, "U8", ("dynamic",), (
        _yes("vllm", "compute capability 8.0 or more; BF16 activations", _MO_VLLM, 80), _yes("sglang", "", _MO_SGLANG), _TF_MODELOPT,
        _yes("tensorrt-llm", "", _MO_TRT), _no("mlx", "of ModelOpt it takes NVFP4 alone", _MLX))),
    LayoutRow("quark-fp8", "AMD Quark, FP8 with one scale per tensor", ("quark-fp8",), "quark", "quark",
              ("--scale-dtype", "--activation-scales"), None, 0, "F32", ("dynamic", "static"), (
        _yes("vllm", "parts of a joined layer are quantized alike", "vLLM 0.33.0, quark/quark.py"),)),
    LayoutRow("gptq-int4", "GPTQ INT4, version 2: words of input channels, with zero points", ("gptq-int4",), "gptq", "gptq",
              ("--group",), None, 128, "BF16", ("none",), (
        _yes("vllm", "where every zero point is the middle (sym) and groups are in order (no desc_act)", "vLLM 0.33.0, auto_gptq.py"),
        _yes("sglang", "", "SGLang 0.5.23, gptq.py"), _yes("transformers", "with gptqmodel installed", "transformers 5.24.0, gptqmodel 7.7.0"),
        _no("mlx", "it unpacks GPTQ as AWQ, along the other axis", _MLX))),
    LayoutRow("awq-int4", "AWQ INT4: words of output channels, with zero points", ("awq-int4",), "awq", "awq",
              ("--group",), None, 128, "BF16", ("none",), (
        _yes("vllm", "", "vLLM 0.33.0, auto_awq.py"), _yes("sglang", "", "SGLang 0.5.23, awq/"),
        _yes("transformers", "with gptqmodel installed", "transformers 5.24.0, quantizers/quantizer_awq.py"),
        _yes("mlx", "biases are rounded to the dtype of the scales", _MLX), _yes("tensorrt-llm", "Llama, by a public report", "a public thread"),
        _no("llama.cpp", "it decodes no AWQ", _GGUF))),
)}


def row(name: str) -> LayoutRow:
    """The row of a writable layout. Raises Usage for another name."""
    if name not in ROWS:
        raise Usage(f"{name!r:.80} is no layout whose configuration can be written; known are {', '.join(ROWS)}", "--to")
    return ROWS[name]


@cache
def layout_of(scheme: str) -> str:
    """The layout that writes a scheme, the one whose usual scheme it is before all others; empty for one that is read only."""
    named = [r.name for r in ROWS.values() if scheme in r.schemes[:1]] + [r.name for r in ROWS.values() if scheme in r.schemes]
    return "neuron" if "neuron" in SCHEMES[scheme].methods else next(iter(named), "")


def cannot_hold(encoding: Encoding, shape: tuple[int, ...]) -> str:
    """Why a weight of `shape` (values: leading axes, output channels, input channels) cannot be stored so; empty where it can.

    A short last block is cut, a short last group is not; words are filled up only where the true shape is stored beside them.
    """
    scheme = SCHEMES.get(encoding.scheme)
    if scheme is None or not encoding.quantized:
        return ""
    axes = 2 if encoding.code.suffix.startswith(".") else 3
    if len(shape) != axes:
        return f"it has {len(shape)} axes, {encoding.scheme} stores weights of {axes}"
    sizes = list(shape[-2:])[::-1] if scheme.turned else list(shape[-2:])
    names = ("input channels", "output channels") if scheme.turned else ("output channels", "input channels")
    return next(_misfits(encoding, sizes, names), "")


def _misfits(encoding: Encoding, sizes: list[int], names: tuple[str, str]) -> Iterator[str]:
    padded = any(field.role is Role.SHAPE for field in encoding.factors)
    for field in encoding.fields:
        if not field.weighs or field.flat:
            continue
        for axis, size in enumerate(field.block):
            if encoding.strategy == "group" and size > 1 and sizes[axis] % size:
                yield f"{sizes[axis]:,} {names[axis]} are no multiple of the group of {size}"
        values, axis = field.packing.values, field.packing.axis
        if values > 1 and not padded and field.grid(*sizes)[axis] % values:
            what = names[axis] if field.role is Role.CODE or field.block[axis] == 1 else f"groups of {names[axis]}"
            unit = "word" if field.packing.size > 1 else "byte"
            yield f"{field.grid(*sizes)[axis]:,} {what} are no multiple of the {values} that share a {unit} of {field.suffix}"

"""What the configuration says of the quantization, in one form for all the spellings that publishers use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.errors import brief
from weighbridge.formats.places import LIST_KEYS, ClaimPlace, places

MTP_KEYS = ("num_mtp_modules", "num_nextn_predict_layers", "mtp_num_layers", "num_mtp_layers")


# ModelOpt names its blocks by the algorithm (nvidia-modelopt 0.47 `export/quant_utils.py`).
ALGO_BLOCKS = {"FP8_PB_WO": [128, 128], "FP8_BLOCK_SCALES": [128, 128]}


@dataclass(frozen=True)
class Claims:
    """The claim of one checkpoint. `blocks` are (rows, columns), `groups` columns that share one scale (-1: a whole row), `widths` bits of a packed code."""

    source: str = ""
    method: str = ""
    fmt: str = ""
    blocks: tuple[tuple[int, int], ...] = ()
    groups: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    skip_key: str = ""
    skip: tuple[str, ...] = ()
    mtp: int = 0
    mtp_key: str = ""
    activation: str = ""
    expert_dtype: str = ""
    scale_format: str = ""
    raw: dict[str, Any] = field(default_factory=dict, compare=False)  # the claim as it stands

    @property
    def family(self) -> str:
        """The word of schemes' `methods`: `modelopt_fp4` is modelopt, GPTQ's second version is another one than its first."""
        return method_family(self.method, self.fmt)

    @property
    def bits(self) -> int | None:
        """Bits of a code, of the first group where there are several."""
        return self.widths[0] if self.widths else None

    @property
    def quantized(self) -> bool:
        return bool(self.method)

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source or None, "quant_method": self.method or None, "fmt": self.fmt or None,
            "block": list(self.blocks[0]) if self.blocks else None, "group_size": self.groups[0] if self.groups else None,
            "bits": self.bits, "activation_scheme": self.activation or None, "scale_fmt": self.scale_format or None,
            "skip_key": self.skip_key or None, "skip": list(self.skip), "mtp_modules": self.mtp,
        }


def method_family(method: str, fmt: str = "") -> str:
    """One word for the spellings of a method."""
    method = method.lower().replace("_", "-")
    for stem in ("modelopt", "compressed", "awq", "bitsandbytes"):
        if method.startswith(stem):
            return "compressed-tensors" if stem == "compressed" else stem
    if method.startswith("gptq"):
        return "gptq_v2" if fmt == "gptq_v2" else "gptq"
    return method.replace("-", "_")


def read_claims(checkpoint: Checkpoint) -> Claims:
    """The claim that stands in the first of `places`. Raises Refused where a file that can hold one is no JSON object."""
    text = _dict(checkpoint.config.get("text_config"))
    found = places(checkpoint, strict=True)
    first = found[0] if found else ClaimPlace("", "", (), {})
    claim = _neuron(checkpoint, first.claim) if first.place == "neuron" else {**first.claim, **_dict(first.claim.get("quantization"))}
    algorithm = next((p.claim["quant_algo"] for p in found if p.place == "hf_quant" and p.claim.get("quant_algo")), None)
    if algorithm and not claim.get("quant_algo"):
        claim["quant_algo"] = algorithm  # config.json may say less than ModelOpt's own file
    weights = _parts(claim)
    skip_key = next((key for key in LIST_KEYS if isinstance(claim.get(key), list)), "")
    mtp_key, mtp = _mtp(checkpoint.config, text)
    return Claims(
        source=f"{first.file}: {'.'.join(first.path)}" if first.file == "config.json" else first.file,
        method=_text(claim.get("quant_method") or claim.get("quantization_dtype") or claim.get("quant_algo")),
        fmt=_text(claim.get("fmt") or claim.get("checkpoint_format") or claim.get("format") or claim.get("quant_algo")),
        blocks=_blocks(claim, weights),
        groups=_unique([claim.get("group_size"), *(w.get("group_size") for w in weights)], also=-1),
        widths=_unique([claim.get("bits"), claim.get("w_bit"), *(w.get("num_bits") or w.get("bits") for w in weights)]),
        skip_key=skip_key, skip=tuple(entry if isinstance(entry, str) else _text(entry) for entry in (claim[skip_key] if skip_key else ())),
        mtp=mtp, mtp_key=mtp_key,
        activation=_text(claim.get("activation_scheme")),
        expert_dtype=_text(checkpoint.config.get("expert_dtype") or claim.get("expert_dtype")),
        scale_format=_text(claim.get("scale_fmt")),
        raw=claim,
    )


def _neuron(checkpoint: Checkpoint, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of NxD Inference, and the block that this tool's manifest states for the files."""
    block = _dict(checkpoint.manifest.get("options")).get("block") or settings.get("quantization_block_size")
    return {**settings, "weight_block_size": block}


def _parts(claim: dict[str, Any]) -> list[dict[str, Any]]:
    """What the claim says of weights of a part of the modules: compressed-tensors' groups, GPTQModel's `dynamic`, ModelOpt's table of layers, Quark's."""
    groups = [_dict(_dict(g).get("weights")) for g in _dict(claim.get("config_groups")).values()]
    tables = [_dict(v) for key in ("dynamic", "quantized_layers") for v in _dict(claim.get(key)).values()]
    quark = [_dict(_dict(v).get("weight")) for v in (claim.get("global_quant_config"), *_dict(claim.get("layer_quant_config")).values())]
    distinct = {repr(w): w for w in (*groups, *tables, *quark) if w}  # a table names every layer
    return list(distinct.values())


def _blocks(claim: dict[str, Any], weights: list[dict[str, Any]]) -> tuple[tuple[int, int], ...]:
    """All claimed blocks; a NxD list such as [1, 128] for two axes reads the same."""
    implied = [ALGO_BLOCKS.get(str(part.get("quant_algo", "")).upper()) for part in (claim, *weights)]
    sizes = [claim.get("weight_block_size"), *(_spelled(w.get("block_structure")) for w in weights), *implied]
    good = [(s[0], s[1]) for s in sizes if isinstance(s, list) and len(s) == 2 and all(_positive(v) for v in s)]
    return tuple(dict.fromkeys(good))


def _spelled(block: Any) -> Any:
    """Old files of compressed-tensors write a block as "128x128"."""
    words = block.split("x") if isinstance(block, str) and len(block) < 20 else []
    return [int(w) for w in words] if len(words) == 2 and all(w.isdigit() for w in words) else block


def _mtp(config: dict[str, Any], text: dict[str, Any]) -> tuple[str, int]:
    for settings in (config, text):
        for key in MTP_KEYS:
            if _positive(settings.get(key)):
                return key, settings[key] if settings.get("use_mtp") is not False else 0
    return "", 0


def _unique(values: list[Any], also: int = 1) -> tuple[int, ...]:
    """Each positive number once, and `also`, where it has a meaning of its own."""
    return tuple(dict.fromkeys(v for v in values if _positive(v) or v == also and isinstance(v, int)))


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 20


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return "" if value is None else brief(value)

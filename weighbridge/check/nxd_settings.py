"""The settings of NxD Inference that count for a case, and the checkpoint's weights as that reader would name them.

Read in NxD 2.29, NxDI and its `contrib/MiniMax-M2` branch (docs/neuron.md). The user's settings go over the checkpoint's own neuron_config.json.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from weighbridge.check.case import Case, per_case
from weighbridge.check.finding import Edit, Where
from weighbridge.check.settings import Settings, Target
from weighbridge.checkpoint.dtypes import FP8
from weighbridge.runtimes import neuron as reader

FILE = "neuron_config.json"
READ_IN = {"neuron": "NxD 2.29, NxDI contrib/MiniMax-M2"}
LARGEST = 1 << 24
FIELDS = {"tp_degree": "tp", "moe_tp_degree": "moe_tp", "moe_ep_degree": "moe_ep", "batch_size": "batch", "tkg_batch_size": "batch",
          "seq_len": "context"}
_QKV = re.compile(r"\.self_attn\.([qkv])_proj$")
_EXPERT = re.compile(r"\.(block_sparse_moe|mlp)\.experts(?:\.\d+)?\.(w1|w2|w3|gate_proj|up_proj|down_proj|gate_up_proj)$")


@dataclass(frozen=True, slots=True)
class NxdWeight:
    """All weights of one key (a name without its layer number) with equal headers. `module` is the path in the traced model, at layer 0."""

    name: str
    module: str
    role: str
    dtype: str
    shape: tuple[int, ...]
    scale_suffix: str
    scale: tuple[int, ...]
    count: int

    @property
    def fp8(self) -> bool:
        return self.dtype in FP8


class Nxd:
    """Settings by name, with the types that NxD wants: a value of another type counts as not given."""

    def __init__(self, case: Case) -> None:
        self.case = case
        own = case.checkpoint.neuron_config
        inner = own.get("neuron_config")
        self.nested = isinstance(inner, dict)
        self.own: dict[str, Any] = inner if isinstance(inner, dict) else own
        self.values: dict[str, Any] = {**self.own, **case.settings.neuron}

    @property
    def stated(self) -> bool:
        """Whether anybody says how the model is to run on Neuron."""
        return bool(self.values)

    def flag(self, key: str) -> bool | None:
        value = self.values.get(key)
        return value if isinstance(value, bool) else None

    def text(self, key: str) -> str:
        value = self.values.get(key)
        return value if isinstance(value, str) else ""

    def size(self, key: str) -> int:
        value = self.values.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LARGEST else 0

    def sizes(self, key: str) -> list[int] | None:
        """A list of whole numbers, or None."""
        value = self.values.get(key)
        good = isinstance(value, list) and len(value) <= 64 and all(isinstance(v, int) and not isinstance(v, bool) and abs(v) <= LARGEST
                                                                    for v in value)
        return list(value) if good else None  # type: ignore[arg-type]

    def inner(self, key: str) -> dict[str, Any]:
        value = self.values.get(key)
        return value if isinstance(value, dict) else {}

    def where(self, key: str) -> Where:
        """Where a setting stands: in the user's words if the user gave it."""
        settings = self.case.settings
        said = settings.sources.get(f"neuron:{key}")
        if not said and (field := FIELDS.get(key)) and getattr(settings, field):
            said = settings.where(field)
        if said:
            file, colon, name = said.partition(": ")
            return Where(file=file, key=name) if colon else Where(key=said)
        if key in settings.neuron:
            return Where(key=f"override_neuron_config: {key}")
        return Where(file=FILE, key=key)

    def edit(self, key: str, value: Any) -> Edit:
        """The change of neuron_config.json that gives `key` another value."""
        return Edit(FILE, ("neuron_config", key) if self.nested else (key,), value)

    # What the rules ask most.

    @property
    def tp(self) -> int:
        return self.case.settings.tp or self.size("tp_degree")

    @property
    def moe_tp(self) -> int:
        return self.case.settings.moe_tp or self.size("moe_tp_degree") or 1

    @property
    def moe_ep(self) -> int:
        return self.case.settings.moe_ep or self.size("moe_ep_degree") or 1

    @property
    def batch(self) -> int:
        """Sequences that token generation runs at once."""
        return self.case.settings.batch or self.size("tkg_batch_size") or self.size("batch_size") or self.size("max_batch_size")

    @property
    def quantized(self) -> bool:
        return self.flag("quantized") is True

    @property
    def wants_fp8(self) -> bool:
        """Whether the files hold FP8 and nothing says that it is not to be used."""
        return self.flag("quantized") is not False and any(s.fp8 for s in self.stored)

    @property
    def blockwise(self) -> bool:
        return self.quantized and self.text("quantization_type") == "blockwise_symmetric"

    @property
    def skip(self) -> list[str]:
        value = self.values.get("modules_to_not_convert")
        return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []

    @property
    def contrib(self) -> bool:
        """Whether the contrib port of MiniMax-M2 loads this model; other families load with classes that are like it in attention and experts."""
        return self.case.checkpoint.model_type == "minimax_m2"

    @cached_property
    def sizes_of_model(self) -> dict[str, int]:
        """Sizes as `runtimes.neuron` takes them; 0 where the config says none."""
        s = self.case.sizes
        return {"heads": s.heads, "kv_heads": s.kv_heads, "head_dim": s.head_dim, "hidden": s.hidden, "vocab": s.vocab, "experts": s.experts,
                "inter": s.moe_inter if s.experts else 0, "top_k": s.top_k}

    def blocks(self, dims: int) -> dict[int, int]:
        """{axis: block} for a weight of so many axes, negative axes counted from the end; {} where the settings are none."""
        axes, sizes = self.sizes("quantization_block_axis"), self.sizes("quantization_block_size")
        if not axes or not sizes or len(axes) != len(sizes) or any(n <= 0 for n in sizes):
            return {}
        return {axis + dims if axis < 0 else axis: size for axis, size in zip(axes, sizes, strict=True) if -dims <= axis < dims}

    @property
    def expert_block(self) -> int:
        """Rows of an expert's width that share a scale: the last axis of gate_up [E, H, 2I] and the middle one of down [E, I, H]."""
        along = self.blocks(3) if self.blockwise else {}
        return max(along.get(2, 1), along.get(1, 1) if along.get(1) == along.get(2) else 1)

    @cached_property
    def stored(self) -> list[NxdWeight]:
        found = []
        for name, key in self.case.survey.keys.items():
            if key.what != "weight":
                continue
            stem = name[: len(name) - len(key.suffix)] if key.suffix else name
            found += [NxdWeight(name, module_path(stem), key.role, pair.row.dtype, pair.shape, pair.row.scale_suffix or "", pair.scale_shape, pair.count)
                      for pair in key.pairs.values()]
        return sorted(found, key=lambda s: (s.name, s.shape))

    def listed(self, stored: NxdWeight) -> bool:
        """Whether the skip list names a module: by any part of its path's text (NxD quantization/quantize.py 122)."""
        return any(reader.matches(entry, stored.module) for entry in self.skip)

    def right_list(self, plain: tuple[str, ...] = ()) -> list[str]:
        """The skip list that these files need, whole. `plain` are ends of paths that count as unquantized too (`.o_proj`)."""
        modules = {s.module: s.fp8 for s in self.stored if s.role.startswith("experts.")}
        for name, tensor in self.case.checkpoint.tensors.items():
            if ".experts." in name or not name.endswith(".weight") or len(tensor.shape) < 2:
                continue
            path = traced(name[:-7])
            if path == "lm_head" or (path.endswith("_proj") and "layers." in path):
                modules[path] = tensor.dtype in FP8 and not path.endswith(plain or "\0")
        return reader.skip_list(modules)

    @property
    def attention(self) -> list[NxdWeight]:
        roles = ("attention.q", "attention.k", "attention.v", "attention.qkv", "attention.o")
        return sorted((s for s in self.stored if s.role in roles), key=lambda s: roles.index(s.role))

    @property
    def raw_scales(self) -> list[NxdWeight]:
        """FP8 weights whose scale has a name that no hook of NxD renames."""
        return [s for s in self.stored if s.fp8 and s.scale_suffix.endswith("weight_scale_inv")]


def module_path(path: str) -> str:
    """The path in the traced model, at layer 0, of a stored module whose path has no layer number."""
    return traced(path.replace("layers.", "layers.0.", 1))


def traced(path: str) -> str:
    """The path in the traced model of a stored module."""
    path = path.removeprefix("language_model.").removeprefix("model.").removeprefix("language_model.")
    if qkv := _QKV.search(path):
        return f"{path[: qkv.start()]}.self_attn.qkv_proj.{qkv[1]}_proj"
    if path.endswith(".self_attn.o_proj"):
        return path + ".o_proj"
    if expert := _EXPERT.search(path):
        leaf = "down_proj" if expert[2] in ("w2", "down_proj") else "gate_up_proj"
        return f"{path[: expert.start()]}.{expert[1]}.expert_mlps.mlp_op.{leaf}"
    return path


@per_case
def nxd(case: Case) -> Nxd:
    return Nxd(case)


def effective(case: Case, target: Target) -> Settings:
    """The settings as `target` reads them: for Neuron what NxD's own settings say is filled in where the user's words leave it open."""
    settings = case.settings
    if target.runtime != "neuron":
        return settings
    n = nxd(case)
    # With EP 1 experts are cut TP ways, whatever moe_tp_degree says (R33).
    return replace(settings, tp=n.tp, moe_ep=n.moe_ep, moe_tp=(n.tp or 1) if n.moe_ep == 1 else n.moe_tp, batch=n.batch,
                   context=settings.context or n.size("seq_len") or n.size("max_context_length"))


def shown(names: list[str], most: int = 3) -> str:
    """Names of keys for a finding: the layer number as `*`."""
    texts = list(dict.fromkeys(re.sub(r"\.experts\.\d+\.", ".experts.*.", name.replace("layers.", "layers.*.", 1)) for name in names))
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")

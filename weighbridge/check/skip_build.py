"""Which of the stored modules a reader builds quantized, under which name, and as part of what."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from weighbridge.check.case import Case
from weighbridge.check.settings import Target
from weighbridge.check.skip_units import SkipUnit
from weighbridge.formats.stated import Stated
from weighbridge.errors import WeighbridgeError
from weighbridge.inspection.roles import TOWERS
from weighbridge.runtimes import FUSED, STRIDE, Patience, neuron, skip, transformers, vllm
from weighbridge.runtimes.list_rules import PLAIN_ROUTERS, VLLM_ROUTERS

PROJECTIONS = ("attention.", "mlp.", "shared_experts.", "experts.")
MTP_PARTS = frozenset({"mtp", "eh_proj", "shared_head", "mtp_block", "mtp_layers"})
TOWER_LINEARS = frozenset({"qkv", "proj", "fc1", "fc2", "linear_fc1", "linear_fc2", "q_proj", "k_proj", "v_proj", "out_proj", "gate_proj", "up_proj",
                           "down_proj"})
QWEN_TOWERS = frozenset({"qwen2_5_vl", "qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"})
_FUSED_OF = {part: fused for fused, parts in FUSED.items() for part in parts}
FUSING = ("vllm", "sglang", "tensorrt-llm")


class Built:
    """One module of the reader. `asked` are the paths that it compares with the list, `fused` the layer that it joins this one to.

    `candidate` is True where it is quantized unless listed, False where it never is, None where that is not known.
    """

    __slots__ = ("asked", "candidate", "draft", "fused", "path", "skipped", "units")

    def __init__(self, path: str, asked: tuple[str, ...], units: list[SkipUnit], fused: str, candidate: bool | None, draft: bool) -> None:
        self.path, self.asked, self.units, self.fused, self.candidate, self.draft = path, asked, units, fused, candidate, draft
        self.skipped = False

    def join(self, unit: SkipUnit, asked: tuple[str, ...], candidate: bool | None) -> None:
        """Another stored part of the same module. The biases of stacked experts are parts that decide nothing."""
        if candidate is False and self.candidate is not False:
            return
        if self.candidate is False and candidate is not False:
            self.units, self.asked, self.candidate = [], (), candidate
        self.units.append(unit)
        self.asked = tuple(dict.fromkeys((*self.asked, *asked)))

    @property
    def coded(self) -> int:
        """Stored modules in it that hold codes."""
        return sum(u.coded for u in self.units)

    @property
    def plain(self) -> int:
        return sum(u.plain for u in self.units)

    @property
    def role(self) -> str:
        return self.units[0].role

    @property
    def experts(self) -> bool:
        return self.units[0].expert


@dataclass(frozen=True)
class Naming:
    """What decides names and candidates: the reader, the family, and how the checkpoint is read."""

    target: Target
    claim: Stated
    reader: str
    model_type: str
    family: str  # model_type of the whole checkpoint; `model_type` is that of the language model
    multimodal: bool  # the files spell their language model `model.language_model.`, and the reader builds the whole model
    text_only: bool  # the same files, read by the class of the language model alone
    fused_qkv: bool
    layers: int
    tied: bool

    def path(self, unit: SkipUnit) -> str:
        """The reader's path of a unit; for experts that of the layer's one module."""
        runtime = self.target.runtime
        if runtime == "neuron":
            return neuron.name(f"{unit.stem}.{unit.leaf}" if unit.expert else unit.path, self.fused_qkv)
        stem = unit.stem
        if self.reader == "sglang-before-23467" and not unit.expert:  # it compared the name of the fused layer itself
            parent, _, leaf = stem.rpartition(".")
            return f"{parent}.{_FUSED_OF[leaf]}" if leaf in _FUSED_OF and unit.role.startswith(PROJECTIONS) else stem
        if runtime == "transformers":
            return transformers.name(stem, self.model_type, self.text_only)
        return vllm.name(stem, self.model_type, self.multimodal) if runtime == "vllm" else stem

    def asked(self, unit: SkipUnit, path: str) -> tuple[str, ...]:
        """compressed-tensors compares the names of the first expert's matrices, as vLLM's `get_moe_method` does.

        A claim below `text_config` speaks of the language model's own paths.
        """
        inner = path.removeprefix("language_model.")
        if inner != path and self.claim.place == "text" and not unit.expert:
            return (path, inner)
        if unit.expert and self.reader.endswith("compressed-tensors"):
            first = path + unit.path[len(unit.stem):]
            return (path, first)
        if unit.expert and self.reader == "gptq-dynamic":
            return (path, path + unit.path[len(unit.stem):])
        return (path,)


def naming(case: Case, target: Target, claim: Stated, reader: str) -> Naming:
    nested = any(key.startswith("model.language_model.") for key in case.survey.keys)
    architectures = case.config.get("architectures")
    listed = [a for a in architectures if isinstance(a, str)] if isinstance(architectures, list) else []
    model_type = str(case.text_config.get("model_type") or case.checkpoint.model_type)[:80] if nested else case.checkpoint.model_type[:80]
    alone = nested and (bool(listed) and all("CausalLM" in a for a in listed) or case.checkpoint.model_type.endswith("_text"))
    fused = case.settings.neuron.get("fused_qkv") is True or case.checkpoint.neuron_config.get("fused_qkv") is True
    return Naming(target, claim, reader, model_type, case.checkpoint.model_type[:80], nested and not alone, alone, fused, case.sizes.layers,
                  case.sizes.tied)


def build(case: Case, names: Naming, stored: Sequence[SkipUnit]) -> list[Built]:
    """All stored units as the reader builds them, in the order of the files."""
    targets = _targets(names)
    targeted = _targeted(names, case.patience)
    found: dict[str, Built] = {}
    for unit in stored:
        path = names.path(unit)
        draft = is_draft(unit, names.layers)
        candidate = _candidate(names, unit, draft)
        asked = names.asked(unit, path)
        known = found.get(path)
        if known is not None:
            known.join(unit, asked, candidate)
            continue
        if candidate and targets is not None and not any(a in targets for a in asked):
            candidate = targeted(asked)
        found[path] = Built(path, asked, [unit], _fused(names, unit, path), candidate, draft)
    return list(found.values())


def is_draft(unit: SkipUnit, layers: int) -> bool:
    """A module of a draft (MTP) layer: by its words, or by a layer number beyond the model's."""
    beyond = layers > 0 and unit.layer >= layers and not unit.role.startswith(("vision", "audio"))
    return unit.role == "mtp" or beyond or not MTP_PARTS.isdisjoint(unit.path.split("."))


def _fused(names: Naming, unit: SkipUnit, path: str) -> str:
    if names.target.runtime not in FUSING or unit.expert or names.reader == "sglang-before-23467":
        return ""
    parent, _, leaf = path.rpartition(".")
    return f"{parent}.{_FUSED_OF[leaf]}" if leaf in _FUSED_OF and unit.role.startswith(PROJECTIONS) else ""


def _candidate(names: Naming, unit: SkipUnit, draft: bool) -> bool | None:
    """Whether the reader builds the module quantized where no list speaks."""
    role, runtime, family = unit.role, names.target.runtime, names.claim.family
    if len(unit.first.weight.shape) < 2 and unit.first.suffix not in (".weight", ".qweight", ".weight_packed"):
        return False
    if role.startswith(("norms", "router.bias", "biases", "embedding", "helpers")) or role.endswith(".sinks") or unit.path.endswith(".bias"):
        return False
    if family == "mxfp4" and not unit.expert:
        return False  # transformers Mxfp4 and vLLM's Mxfp4Config take the experts alone
    if in_tower(unit):
        return _tower(names, unit)
    return {"transformers": _transformers, "vllm": _vllm, "sglang": _sglang, "tensorrt-llm": _tensorrt_llm, "neuron": _neuron}.get(
        runtime, lambda *_: None)(names, unit, draft)


def in_tower(unit: SkipUnit) -> bool:
    """Vision and audio parts: one of the first words says so."""
    return not TOWERS.keys().isdisjoint(unit.path.split(".", 3)[:3])


def _tower(names: Naming, unit: SkipUnit) -> bool | None:
    """A claim below `text_config` does not speak of towers. Qwen's classes in vLLM quantize the towers' layers, transformers every Linear."""
    if names.claim.place == "text":
        return False
    if len(unit.first.weight.shape) != 2 or "embed" in unit.leaf:
        return None
    if names.target.runtime == "vllm":
        return True if names.family in QWEN_TOWERS and "patch_embed" not in unit.path else None
    return True if names.target.runtime == "transformers" and not names.text_only and unit.leaf in TOWER_LINEARS else None


def _transformers(names: Naming, unit: SkipUnit, draft: bool) -> bool | None:
    if draft:
        return False  # no class of transformers 5.23 builds draft layers; their tensors are left out
    if unit.role == "router":
        return None if names.target.before("5.0") else False  # a parameter of a router class since 5.0, no Linear
    if unit.leaf == "shared_expert_gate":
        return True
    return True if unit.role.startswith((*PROJECTIONS, "lm_head")) and len(unit.first.weight.shape) <= 3 else None


def _vllm(names: Naming, unit: SkipUnit, draft: bool) -> bool | None:
    family, role = names.claim.family, unit.role
    if unit.leaf in ("shared_expert_gate", "weights_proj", "eh_proj"):
        return False
    if role == "lm_head" or "shared_head" in unit.path:
        return family == "modelopt" and not names.target.before("0.12")
    if role == "router":
        if names.model_type in VLLM_ROUTERS and family in ("compressed-tensors", "quark"):
            return True
        return False if names.model_type in PLAIN_ROUTERS else None
    return _projection(unit)


def _sglang(names: Naming, unit: SkipUnit, draft: bool) -> bool | None:
    if unit.leaf in ("shared_expert_gate", "weights_proj", "eh_proj"):
        return False
    if unit.role == "lm_head" or "shared_head" in unit.path:
        return False if names.claim.family in ("fp8", "compressed-tensors", "awq") else None
    if unit.role == "router":
        return False if names.model_type in PLAIN_ROUTERS | VLLM_ROUTERS else None
    return _projection(unit)


def _tensorrt_llm(names: Naming, unit: SkipUnit, draft: bool) -> bool | None:
    if unit.role in ("lm_head", "router") or draft or unit.leaf in ("shared_expert_gate", "weights_proj"):
        return None
    return _projection(unit)


def _neuron(names: Naming, unit: SkipUnit, draft: bool) -> bool | None:
    """Column- and row-parallel layers and stacked experts, by exact class (NxD quantization/quantize.py)."""
    if unit.role in ("router", "embedding") or "router" in unit.path.split("."):
        return False
    if draft:
        return None
    return True if unit.role == "lm_head" else _projection(unit)


def _projection(unit: SkipUnit) -> bool | None:
    if unit.role.endswith((".other", ".indexer")) or not unit.role.startswith(PROJECTIONS):
        return None
    return True


def _targets(names: Naming) -> set[str] | None:
    """None where every linear layer is meant (`targets: ["Linear"]`), as in all readers but compressed-tensors."""
    schemes = names.claim.schemes
    if names.claim.family != "compressed-tensors" or not schemes or any("Linear" in s.targets for s in schemes):
        return None
    return set()


def _targeted(names: Naming, patience: Patience) -> Callable[[tuple[str, ...]], bool | None]:
    """Whether a target of any scheme names one of the paths; None where a target cannot be read, or no time is left to try them all."""
    targets = list(dict.fromkeys(target for s in names.claim.schemes for target in s.targets))
    plain = {target for target in targets if not target.startswith("re:")}
    patterns = [target for target in targets if target.startswith("re:")]
    matches = skip.RULES["compressed-tensors"].matches

    def targeted(asked: tuple[str, ...]) -> bool | None:
        if not plain.isdisjoint(asked):
            return True
        try:
            with patience.spent() as end:
                for number, target in enumerate(patterns):
                    if number % STRIDE == 0 and time.thread_time() > end:
                        return None
                    if any(matches(target, path) for path in asked):
                        return True
        except WeighbridgeError:
            return None
        return False

    return targeted


def default_entries(case: Case, names: Naming, *, given: bool) -> tuple[str, ...]:
    """Entries that the reader adds itself. `given` says whether the config has the list at all, be it empty."""
    runtime, family = names.target.runtime, names.claim.family
    if runtime == "transformers" and family in ("fp8", "mxfp8", "fbgemm_fp8", "awq", "mxfp4"):
        kept = ("indexer.weights_proj",) if names.model_type in ("deepseek_v32", "glm_moe_dsa") else ()
        return kept if given and family != "awq" else (*kept, "lm_head")
    if runtime == "tensorrt-llm" and family == "fp8" and names.claim.block:
        return ("*kv_b_proj*", "*k_b_proj*", "*eh_proj")
    return ()

"""What all writers share: config.json with another claim in the old one's place, and the one list that all readers of the layout read right."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import Encoding, Role
from weighbridge.layouts.configs.facts import Facts, Held, Written
from weighbridge.runtimes.list_questions import ListReader, Unit, list_reader, fold
from weighbridge.runtimes.joint_list import joint_list

# Files that say how the *source* was quantized. ModelOpt, GPTQ, AutoAWQ, ModelSlim, llm-compressor, NxD.
STALE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json", "quant_model_description*.json", "recipe.yaml", "neuron_config.json")
DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
READERS = ("vllm", "sglang", "transformers", "tensorrt-llm")
_CLAIMS = ("quantization_config", "compression_config", "quantization")
_PARTS = ("text_config", "llm_config", "language_config")


def written(facts: Facts, claim: Mapping[str, Any] | None, files: Mapping[str, dict[str, Any]] | None = None) -> Written:
    """The output's files. The claim stands where the source's stood, below `text_config` too, else at the top; none of the old ones stays.

    Raises WeighbridgeError for a dtype that no config can name.
    """
    config = copy.deepcopy(dict(facts.config))
    places = [(), *((part,) for part in _PARTS if isinstance(config.get(part), dict))]
    stood = [place for place in places if isinstance(_at(config, place).get("quantization_config"), dict)]
    for place in places:
        for key in _CLAIMS:
            if isinstance(_at(config, place).get(key), dict):
                del _at(config, place)[key]
    for place in (stood or [()]) if claim is not None else ():
        _at(config, place)["quantization_config"] = _ordered(claim)
    _name_dtype(config, places, facts.dtype)
    made = {name: _ordered(document) for name, document in (files or {}).items()}
    return Written(config, made, tuple(name for name in STALE if name not in made))


def claim_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The claim of a config.json: at the top, or in the part of the language model; empty where there is none."""
    for part in (config, *(config.get(name) for name in _PARTS)):
        if isinstance(part, Mapping) and isinstance(part.get("quantization_config"), dict):
            return part["quantization_config"]
    return {}


def below_text(config: Mapping[str, Any]) -> bool:
    """Whether the claim stands in the language model's part alone."""
    return bool(claim_of(config)) and not isinstance(config.get("quantization_config"), dict)


def _at(config: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    return config[place[0]] if place else config


def _ordered(value: Any) -> Any:
    """A copy with sorted keys: the same facts, the same bytes."""
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(v) for v in value] if isinstance(value, (list, tuple)) else value


def _name_dtype(config: dict[str, Any], places: Iterable[tuple[str, ...]], dtype: str) -> None:
    """Every `dtype` and `torch_dtype` of the language model is the dtype of what is not quantized; one is made where there was none."""
    if dtype not in DTYPES:
        raise WeighbridgeError("config-dtype", f"{dtype} is no dtype that config.json can name; known are {', '.join(DTYPES)}",
                               "config.json: torch_dtype", "choose another layout: this is a fault of the plan")
    found = [(place, key) for place in places for key in ("dtype", "torch_dtype") if key in _at(config, place)]
    for place, key in found or [((), "torch_dtype")]:
        _at(config, place)[key] = DTYPES[dtype]


def units_of(quantized: Iterable[str], plain: Mapping[str, str]) -> list[Unit]:
    """In the order of the names, so that the order in which a plan has them does not show."""
    return fold(sorted(quantized), {module: plain[module] for module in sorted(plain)})


def readers_of(facts: Facts, family: str, units: list[Unit] | None = None) -> list[ListReader]:
    """The questions of every reader whose way of matching is known for this family of claims."""
    listed = units_of(facts.quantized, facts.plain) if units is None else units
    readers = (list_reader(reader, family, listed, facts.model_type, facts.config, below_text(facts.config)) for reader in READERS)
    return [one for one in readers if one is not None]


def skip_list(facts: Facts, family: str, first: Iterable[str] = (), unneeded: bool = True) -> list[str]:
    """The list of what stays unquantized, right for every reader whose way is known; the rest as in `joint_list`."""
    return joint_list(readers_of(facts, family), first, unneeded=unneeded)


def targets(facts: Facts, held: Held) -> list[str]:
    """Targets of a group of compressed-tensors: entries that name the modules of one encoding, no other quantized one, and no module around them."""
    others = [m for other in facts.held if other is not held for m in other.modules]
    return joint_list(target_readers(facts, held.modules, others), containers=False, unneeded=False)


def target_readers(facts: Facts, mine: Iterable[str], others: Iterable[str]) -> list[ListReader]:
    """What readers ask the targets of a group: of experts the matrices alone."""
    readers = [r for r in readers_of(facts, "compressed-tensors", units_of(others, dict.fromkeys(mine, "quantized"))) if r.runtime != "tensorrt-llm"]
    return [replace(r, questions=[q._replace(paths=tuple(p for p in q.paths if not p.endswith(".experts"))) for q in r.questions]) for r in readers]


def merged(facts: Facts, claimed: Callable[[Encoding], Any]) -> Facts:
    """The facts with encodings as one that the claim says alike: scales in F32 and in BF16, say, which only the files tell apart."""
    found: dict[str, Held] = {}
    for held in facts.held:
        known = found.setdefault(repr(claimed(held.encoding)), Held(held.encoding, ()))
        found[repr(claimed(held.encoding))] = known._replace(modules=(*known.modules, *held.modules))
    return replace(facts, held=tuple(found.values()))


def only_encoding(facts: Facts, claimed: Callable[[Encoding], Any] = lambda encoding: encoding) -> Encoding:
    """The one encoding of the output. Raises WeighbridgeError where there are several that the claim would say otherwise, or none."""
    held = merged(facts, claimed).held
    if len(held) != 1:
        raise WeighbridgeError("config-mixed", f"the claim of {facts.layout} can say one encoding, the plan has {len(held)}",
                               "config.json: quantization_config", "choose a layout whose claim says groups (ct-…, modelopt-…)")
    return held[0].encoding


def words(encoding: Encoding) -> tuple[int, int]:
    """What GPTQ and AWQ say of an encoding: bits and group size."""
    return bits(encoding), group_size(encoding)


def refuse_static(facts: Facts, why: str) -> None:
    """Refuse static scales of activations where the readers of the layout take none."""
    if facts.static:
        raise WeighbridgeError("config-static", f"{facts.layout}: {why}", "config.json: quantization_config", "leave --activation-scales out")


def bits(encoding: Encoding) -> int:
    return ELEMENTS[encoding.element].bits


def is_float(encoding: Encoding) -> bool:
    return ELEMENTS[encoding.element].kind == "float"


def has_activation_scale(encoding: Encoding) -> bool:
    """Whether a static scale of the activations can stand beside it."""
    return any(field.role is Role.ACTIVATION for field in encoding.factors)


def has_zeros(encoding: Encoding) -> bool:
    return any(field.role is Role.ZERO for field in encoding.factors)


def group_size(encoding: Encoding) -> int:
    """Input channels that share a scale; stored axes may be turned, so the axis with more than one counts."""
    return max(encoding.block or (0,))

"""What a reader asks its skip list: for each module that it builds, the paths that it compares, and the right answer.

Stored modules come in as they are called in the files. Experts of a layer are one module to most readers, parts of q, k, v and of gate, up one layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from weighbridge.runtimes import FUSED, STACKED, sglang, skip, transformers, vllm
from weighbridge.runtimes.list_rules import RULE_OF, never_quantized

FUSING = ("vllm", "sglang", "tensorrt-llm")
_FUSED_OF = {part: fused for fused, parts in FUSED.items() for part in parts}
# vLLM and SGLang ask compressed-tensors for an expert's matrices under these names, whatever the files call them (`get_moe_method`).
_GENERIC = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


class Unit(NamedTuple):
    """Stored modules of one name in one layer that share a fate: a single one, or one matrix of all experts of a layer.

    `stem` is the path, for experts `….experts`; `leaf` the last word. `modules` are those in the files.
    """

    stem: str
    leaf: str
    expert: bool
    plain: bool
    role: str
    modules: list[str]


class Question(NamedTuple):
    """One module of the reader. It is surely left out of the quantization if every path is matched, or the layer `fused` that it becomes a part of;
    it is surely quantized if none is.

    `wanted`: True where it must be left out, False where it must not, None where the reader does not ask.
    """

    unit: Unit
    paths: tuple[str, ...]
    fused: str
    wanted: bool | None


@dataclass(frozen=True)
class ListReader:
    """All questions of one reader; `rule` is its row of `skip.RULES`. `multimodal` and `text_only` say how the reader spells paths."""

    runtime: str
    family: str
    rule: str
    model_type: str
    multimodal: bool = False
    questions: list[Question] = field(default_factory=list)

    @property
    def grammar(self) -> str:
        """The row whose way of writing entries suits this family of claims: TensorRT-LLM reads that of compressed-tensors, too."""
        return self.family if self.family in skip.RULES and self.family != self.runtime else self.rule

    def spelled(self, entry: str) -> tuple[str, ...]:
        """What the reader compares in the place of an entry of the file."""
        if self.runtime == "transformers" and self.family == "fp8":
            return (transformers.renamed(entry, self.model_type),)
        if self.runtime == "vllm":
            return (vllm.renamed(entry, self.multimodal),)
        if self.rule == "sglang":
            return sglang.spelled((entry,))[entry]
        return (entry,)


def fold(quantized: Iterable[str], plain: Mapping[str, str]) -> list[Unit]:
    """Units of all modules. Quantized and unquantized experts of one layer are two units."""
    found: dict[tuple[str, str, bool], Unit] = {}
    for module, role, is_plain in [*((m, "", False) for m in quantized), *((m, r, True) for m, r in plain.items())]:
        before, at, inner = module.partition(".experts.")
        number, _, leaf = inner.partition(".")
        leaf = (leaf if leaf and number.isdigit() else inner) if at else module.rpartition(".")[2]
        stem = before + ".experts" if at else module
        unit = found.get((stem, leaf, is_plain))
        if unit is None:
            unit = found[stem, leaf, is_plain] = Unit(stem, leaf, bool(at), is_plain, role, [])
        unit.modules.append(module)
    return list(found.values())


def list_reader(runtime: str, family: str, units: Sequence[Unit], model_type: str, config: Mapping[str, Any], text_claim: bool) -> ListReader | None:
    """The questions of a reader; None where it has no list for this method, or one that is not known.

    `text_claim`: the claim stands below `text_config`; then paths count with and without the language model's prefix, and towers are not reader for.
    """
    rule = RULE_OF.get((runtime, family), "")
    if not rule:
        return None
    nested = any(u.stem.startswith("model.language_model.") for u in units)
    listed = config.get("architectures")
    alone = nested and isinstance(listed, list) and bool(listed) and all("CausalLM" in str(a) for a in listed)
    reader = ListReader(runtime, family, rule, model_type, nested and not alone)
    for unit in units:
        stem = _path(reader, unit.stem, nested and alone)
        fused = _fused(runtime, unit, stem)
        wanted = unit.plain
        if unit.plain and never_quantized(runtime, family, model_type, unit.stem, unit.role):
            wanted = None
        by_layer = bool(skip.RULES[rule].part)
        for paths in _paths(reader, unit, stem, fused, text_claim):
            # What must be quantized must not be named in any way, be it by an expert's matrix or as a joined layer.
            guarded = paths if unit.plain else tuple(dict.fromkeys((*paths, *_nearby(unit, stem, "" if by_layer else fused))))
            reader.questions.append(Question(unit, guarded, fused if by_layer else "", wanted))
    return reader


def _path(reader: ListReader, stem: str, text_only: bool) -> str:
    if reader.runtime == "transformers":
        return transformers.name(stem, reader.model_type, text_only)
    return vllm.name(stem, reader.model_type, reader.multimodal) if reader.runtime == "vllm" else stem


def _nearby(unit: Unit, stem: str, fused: str) -> list[str]:
    inner = (unit.modules[0].partition(".experts")[2], f".{STACKED[unit.leaf]}" if unit.leaf in STACKED else "") if unit.expert else ()
    return [*(stem + text for text in inner), *([fused] if fused else [])]


def _fused(runtime: str, unit: Unit, path: str) -> str:
    parent, _, leaf = path.rpartition(".")
    if runtime not in FUSING or unit.expert or leaf not in _FUSED_OF:
        return ""
    return f"{parent}.{sglang.fused_name(leaf) if runtime == 'sglang' else _FUSED_OF[leaf]}"


def _paths(reader: ListReader, unit: Unit, stem: str, fused: str, text_claim: bool) -> list[tuple[str, ...]]:
    """Sets of paths; each set is a question of its own."""
    inner = stem.removeprefix("language_model.")
    stems = [stem, inner] if text_claim and inner != stem else [stem]
    if not unit.expert:
        if reader.rule == "gptq-dynamic" and fused:
            return [(fused,)]  # utils/gptq_utils.py looks at the layer as it is built
        return [(s,) for s in stems]
    if reader.rule.endswith("compressed-tensors"):
        numbers = dict.fromkeys((unit.modules[0], unit.modules[-1]))
        own = [s + m.partition(".experts")[2] for s in stems for m in numbers]
        return [tuple(dict.fromkeys((*stems, *own, *(f"{s}.0.{_GENERIC.get(unit.leaf, unit.leaf)}" for s in stems))))]
    if reader.rule == "gptq-dynamic":
        return [(s, f"{s}.0.{unit.leaf}") for s in stems]
    return [(s,) for s in stems]


def split_units(units: Sequence[Unit]) -> list[Unit]:
    """Units of layers that readers join of which one part is quantized and another is not: no list can say that."""
    groups: dict[str, list[Unit]] = {}
    for unit in units:
        parent, _, leaf = unit.stem.rpartition(".")
        if unit.expert:
            groups.setdefault(unit.stem, []).append(unit)
        elif leaf in _FUSED_OF and "experts" not in parent.split("."):
            groups.setdefault(f"{parent}.{_FUSED_OF[leaf]}", []).append(unit)
    return [unit for group in groups.values() if len({u.plain for u in group}) > 1 for unit in group]


__all__ = ["FUSING", "ListReader", "Question", "Unit", "list_reader", "fold", "split_units"]

"""What should be in the files: by the family's inventory, by the layout that this tool wrote, or by what the other layers hold."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from weighbridge.check.case import Case, per_case
from weighbridge.check.modules import Module
from weighbridge.errors import Problem, WeighbridgeError
from weighbridge.inspection.roles import key_of
from weighbridge.models import Inventory, PublishedForm, Weight

# A stored module that holds several of the inventory's: the name of the part -> names of what may hold it, in the same parent.
FUSED_IN = {
    "q_proj": ("qkv_proj", "query_key_value", "Wqkv"), "k_proj": ("qkv_proj", "query_key_value", "Wqkv"), "v_proj": ("qkv_proj", "query_key_value", "Wqkv"),
    "gate_proj": ("gate_up_proj",), "up_proj": ("gate_up_proj",), "w1": ("w13",), "w3": ("w13",),
}
FUSED_EXPERT = {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "down_proj": "down_proj", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"}
HARMLESS = ("rotary_emb.inv_freq", "masked_bias", "attn.bias")  # buffers that older libraries saved
_EXPERT = re.compile(r"\.experts\.\d+\.(\w+)$")
PREFIXES = ("", "model.", "language_model.", "model.language_model.", "language_model.model.")


@dataclass
class Expected:
    """`missing` and `surplus` are module paths, `shapes` (path, stored, expected). `by` says what the expectation rests on."""

    by: str = ""
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    shapes: list[tuple[Module, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    foreign_names: str = ""  # why nothing can be said: no name fits
    total: int = 0


@per_case
def expected(case: Case) -> Expected:
    """Compare; for unknown families only layers with one another."""
    if case.checkpoint.fatal:
        return Expected("nothing: files could not be read")
    names = case.checkpoint.tensors
    if case.checkpoint.ranks or any(".mlp_op." in name for name in names):
        known = case.inventory is not None and case.inventory.model_type == "minimax_m2"
        return _by_layout(case) if known else _by_siblings(case)
    if case.inventory is None:
        return _by_siblings(case)
    return _by_inventory(case)


def _by_inventory(case: Case) -> Expected:
    assert case.inventory is not None
    held, made = case.modules.by_path, case.inventory
    wanted = {w.published.removesuffix(".weight"): w for w in made.weights.values() if w.published}
    optional = {name.removesuffix(".weight") for name, due in made.published_names.items() if not due}
    found = Expected(f"the inventory of {made.model_type}", total=len(wanted))
    if held and not any(path in held for path in wanted) and not any(_fused(path, held) for path in wanted):
        found.foreign_names = _other_prefix(wanted, held)
        return found
    used = _forms(found, made, held)
    for path, weight in wanted.items():
        module = held.get(path)
        if module is not None:
            if module.weight.shape != weight.shape:
                _compare(found, module, weight)
        elif weight.name in used.weights:
            continue
        elif holder := _fused(path, held):
            used.paths.add(holder)
        else:
            found.missing.append(path)
    tied_head = {"lm_head"} if case.sizes.tied else set()
    known = wanted.keys() | optional | used.paths | tied_head
    found.surplus = [path for path in held.keys() - known if not path.endswith(HARMLESS) and not path.startswith(made.foreign)
                     and not _extra(path, known)]
    found.surplus.sort()
    return found


class _Used(NamedTuple):
    """Stored modules that are forms of the inventory, and the logical weights that they hold."""

    paths: set[str]
    weights: set[str]


def _forms(found: Expected, inventory: Inventory, held: dict[str, Module]) -> _Used:
    """Forms that the files have; of those that must be there (the makers store nothing else), which are missing."""
    used = _Used(set(), set())
    for form in inventory.forms:
        path = _path(form)
        if path in held:
            used.paths.add(path)
            used.weights.update(form.members)
    for form in inventory.main_forms:
        members = [name for name in form.members if name in inventory.weights]
        found.total += bool(members)
        if members and not used.weights.issuperset(members):
            found.missing.append(_path(form))
    return used


def _path(form: PublishedForm) -> str:
    """The module of a form: packed codes (`_blocks`) belong to the module of the plain values."""
    return form.name.removesuffix(".weight").removesuffix("_blocks")


def _extra(path: str, known: set[str]) -> bool:
    """Biases of known modules: whether a family has them is its own affair. Draft layers are told by their words; scales have rules of their own."""
    return path.removesuffix(".bias") in known or ".mtp" in f".{path}" or "scale" in path.rpartition(".")[2]


def _fused(path: str, held: dict[str, Module]) -> str:
    """The stored module that holds `path` among others, or nothing."""
    parent, _, leaf = path.rpartition(".")
    if (expert := _EXPERT.search(path)) and expert[1] in FUSED_EXPERT:
        stack = f"{path[: expert.start()]}.experts.{FUSED_EXPERT[expert[1]]}"
        if stack in held:
            return stack
    for other in FUSED_IN.get(leaf, ()):
        if f"{parent}.{other}" in held:
            return f"{parent}.{other}"
    return ""


def _other_prefix(wanted: dict[str, Weight], held: dict[str, Module]) -> str:
    sample = list(wanted)[: 200]
    for prefix in PREFIXES:
        if sum(prefix + path in held or prefix + path.removeprefix("model.") in held for path in sample) * 2 > len(sample):
            return f"the files spell them with {prefix or 'no'} prefix: {prefix}{sample[-1].removeprefix('model.')}"
    return f"the files hold {next(iter(held))}, …"


def _compare(found: Expected, module: Module, weight: Weight) -> None:
    if module.suffix not in (".weight", "") or (module.kind.quantized and module.weight.dtype in ("U8", "I8", "I32")):
        return  # packed: the shape is that of codes
    want = (weight.shape[1],) if weight.vector else weight.shape
    have = module.weight.shape
    if have != want and not (weight.vector and module.weight.parameters == want[0]):
        found.shapes.append((module, have, want))


def _by_layout(case: Case) -> Expected:
    """A checkpoint in the form of NxD Inference: the layout's own rules say what is due."""
    from weighbridge.plan.bind import bind

    found = Expected("the layout neuron")
    try:
        problems: list[Problem] = bind(case.checkpoint).problems
    except WeighbridgeError:
        return _by_siblings(case)
    for problem in problems:
        if problem.code == "missing-tensor":
            found.missing.append(problem.where.removesuffix(".weight"))
        elif problem.code == "surplus-tensor":
            found.surplus.append(problem.where.rpartition(": ")[2].removesuffix(".weight"))
    return found


def _by_siblings(case: Case) -> Expected:
    """A family without an inventory: a layer must hold what all other layers of its kind hold.

    Layers are of one kind when they share seven tenths of their keys; a key that all of at least three other such layers have is due.
    """
    layers: dict[int, set[str]] = {}
    spelled: dict[str, str] = {}
    for module in case.modules.all:
        number = module.layer
        if number >= 0:
            key = key_of(module.path)
            layers.setdefault(number, set()).add(key)
            spelled.setdefault(key, module.path)
    found = Expected("what the other layers hold", total=sum(len(keys) for keys in layers.values()))
    for number, keys in layers.items():
        kin = [other for n, other in layers.items() if n != number and len(other & keys) * 10 >= len(other | keys) * 7]
        if len(kin) < 3:
            continue
        due = set.intersection(*kin) - keys
        found.missing += [_in_layer(spelled[key], number) for key in sorted(due)]
    return found


def _in_layer(path: str, number: int) -> str:
    return re.sub(r"((?:^|\.)(?:layers|blocks|h)\.)\d+", rf"\g<1>{number}", path, count=1)

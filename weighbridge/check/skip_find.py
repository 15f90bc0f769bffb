"""What the rules about skip lists share: the right list as a fix, the entries that hit, and what follows in each reader."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence

from weighbridge.check.case import Case
from weighbridge.check.claim_find import nested_twice
from weighbridge.check.finding import Edit, Fix, Where
from weighbridge.check.fold import folded
from weighbridge.check.skip_build import Built
from weighbridge.runtimes.skiplist import Unwritable, skip_list
from weighbridge.check.views import View, spelled
from weighbridge.errors import WeighbridgeError
from weighbridge.runtimes import Patience, skip

READERS = ("transformers", "vllm", "sglang", "neuron", "tensorrt-llm")
READ_IN = {"transformers": "transformers 5.23.0", "vllm": "vLLM main", "sglang": "SGLang main", "neuron": "NxD 2.29",
           "tensorrt-llm": "TensorRT-LLM main"}
_WORD = re.compile(r"[\w.]+")
PACKED = frozenset({"awq", "gptq"})


def place(view: View, modules: Iterable[Built]) -> Where:
    """File, key and folded paths (the reader's) of some modules."""
    listed = [b.path for b in modules]
    return Where(file=view.file, module=folded(listed), key=view.where, count=len(listed))


def right_list(case: Case, view: View) -> Fix:
    """The whole list that this reader needs, with the edit that writes it. The same value for every rule, so `--fix` can join them."""
    if view.fix is None:
        view.fix = _right_list(case, view)
    return view.fix


def _right_list(case: Case, view: View) -> Fix:
    names, claim = view.naming, view.claim
    assert names is not None and claim is not None
    split = {path: not b.coded for b in view.built if b.candidate and not (b.coded and b.plain) for path in b.asked}
    # Entries under another key may stay too: they are the publisher's, only not read.
    given = [] if view.target.runtime == "neuron" else [*view.entries, *(entry for entries in view.unread.values() for entry in entries)]
    try:
        good, covered = _good_entries(view, given, split, case.patience)
        covered |= _by_default(view)
        open_split = {path: skipped for path, skipped in split.items() if not skipped or path not in covered}
        value = good + skip_list(view.reader, open_split, lambda entry: spelled(entry, names, view.reader), case.patience)
    except Unwritable as error:
        return Fix(f"no list can be right: {error}; make the two agree in the files")
    except WeighbridgeError as error:
        return Fix(f"write the list by hand: {error}")
    if view.target.runtime == "neuron" and case.settings.neuron:  # given with --config: --fix starts from these settings
        edits: tuple[Edit, ...] = (Edit("neuron_config.json", ("modules_to_not_convert",), value),)
    elif view.target.runtime == "neuron" and not case.checkpoint.neuron_config or not view.file:
        edits = ()
    else:
        edits = tuple(Edit(view.file, (*claim.path, key), value) for key in (view.key, *view.unread) if key != "dynamic")
    return Fix(f"write {view.where} as this list; {view.target.runtime} matches {skip.RULES[view.reader].way}", value, edits)


def _good_entries(view: View, entries: list[str], split: dict[str, bool], patience: Patience) -> tuple[list[str], set[str]]:
    """Entries that may stay, since other readers of the same file need them, and what they name: no quantized module, and nothing that fails."""
    assert view.naming is not None
    texts = {entry: spelled(entry, view.naming, view.reader) for entry in dict.fromkeys(entries)
             if entry.strip() and not nested_twice(entry)}
    found = skip.resolve(dict.fromkeys(text for each in texts.values() for text in each), split, view.reader, patience)
    good, covered = [], set()
    for entry, each in texts.items():
        hit = {path for text in each for path in found.matched.get(text, ())}
        if all(split[path] for path in hit) and not any(text in found.failing or text in found.refused for text in each):
            good.append(entry)
            covered |= hit
    return good, covered


def _by_default(view: View) -> set[str]:
    matched = view.resolution.matched if view.resolution else {}
    return {path for entry in view.defaults for path in matched.get(entry, ())}


def entry_hits(view: View, entry: str) -> list[Built]:
    """Quantized candidates that one entry names."""
    paths = set(view.hits(entry))
    return [b for b in view.candidates if b.coded and not paths.isdisjoint(b.asked)] if paths else []


def hits_plain(view: View, entry: str) -> list[str]:
    """Stored matrices without codes that one entry names too, by the reader's path or as the files spell them (routers)."""
    paths = set(view.hits(entry))
    matrices = [b for b in view.built if not b.coded and len(b.units[0].first.weight.shape) >= 2]
    words = f".{entry.strip('.*')}."
    return ([b.path for b in matrices if not paths.isdisjoint(b.asked)]
            or [u.path for b in matrices for u in b.units if words in f".{u.path}."])


def reaches_too_far(view: View, entry: str, hit: Sequence[Built]) -> list[str] | None:
    """What an entry was meant for, where it names more than that; None where it names these modules rightly.

    It is meant for plain modules that it names too, or it is a word that stands within longer words of some that it hits (`v_proj`, `qkv_proj`).
    """
    meant = hits_plain(view, entry)
    if meant:
        return meant
    word = entry.strip(".")
    return [] if _WORD.fullmatch(word) and not all(any(f".{word}." in f".{path}." for path in b.asked) for b in hit) else None


def in_split(view: View) -> set[str]:
    """Fused layers whose parts disagree: WB307 tells of them."""
    return {fused for fused, parts in fused_groups(view).items() if disagree(parts)}


def fused_groups(view: View) -> dict[str, list[Built]]:
    groups: dict[str, list[Built]] = {}
    for built in view.candidates:
        if built.fused:
            groups.setdefault(built.fused, []).append(built)
    return groups


def disagree(parts: Sequence[Built]) -> bool:
    return len({b.skipped for b in parts}) > 1 or (any(b.coded for b in parts) and any(b.plain for b in parts))


def too_large(case: Case, built: Built) -> str:
    """`about 900 times too large`: by the first scale of these modules, where its bytes may be read."""
    module = next((u.first_coded for u in built.units if u.first_coded is not None), None)
    if module is None or module.scale is None or case.scale_bytes == "none" or module.scale.dtype not in ("F32", "BF16"):
        return "too large by 1/scale"
    raw = case.read(module.scale, 0, 4096)
    values = [v[0] for v in struct.iter_unpack("<f", raw[: len(raw) // 4 * 4])] if module.scale.dtype == "F32" else [
        struct.unpack("<f", b"\0\0" + raw[i:i + 2])[0] for i in range(0, len(raw) - 1, 2)]
    good = sorted(v for v in values if 0 < v < float("inf"))
    if not good:
        return "too large by 1/scale"
    factor = 1 / good[len(good) // 2]
    return f"about {float(f'{factor:.2g}'):,.0f} times too large" if factor >= 1 else f"off by {factor:.2g}"


def scale_name(built: Built) -> str:
    """The name of a scale as vLLM and SGLang look it up: without `model.`, and in the fused layer."""
    module = next((u.first_coded for u in built.units if u.first_coded is not None), None)
    suffix = (module.scale_suffix if module else "") or ".weight_scale"
    if built.experts:
        return f"{built.path.removeprefix('model.')}.w13{suffix.replace('.', '_', 1)}"
    return (built.fused or built.path).removeprefix("model.") + suffix


def listed_but_coded(case: Case, view: View, modules: Sequence[Built]) -> str:
    """What follows where the reader leaves modules unquantized that hold codes."""
    first, runtime = modules[0], view.target.runtime
    if runtime == "vllm":
        return f"KeyError: '{scale_name(first)}'"
    if runtime == "sglang":
        return (f"a warning, \"Parameter {scale_name(first)} not found in params_dict\", then garbage: codes are taken for values, "
                + too_large(case, first))
    if runtime == "transformers":
        return f"no error, a warning of unexpected keys: codes are taken for values, {too_large(case, first)}"
    if runtime == "neuron":
        return _neuron_listed(case, modules)
    return "no error text is known: the layer is built in BF16 and gets codes, " + too_large(case, first)


def _neuron_listed(case: Case, modules: Sequence[Built]) -> str:
    """Two-dimensional scales of o_proj meet an assert, whatever the layer is (gqa.py 1088-1113); everything else is silent."""
    grids = [b for b in modules if b.role == "attention.o" for u in b.units if u.first_coded and u.first_coded.scale and _grid(u.first_coded)]
    silent = [b for b in modules if b.role.startswith(("experts", "attention", "mlp", "shared", "lm_head"))]
    text = "; ".join(f"{what} {too_large(case, first)}" for what, first in _firsts(silent))
    if grids:
        return ("AssertionError without a message (modules/attention/gqa.py verify_scale_dimension): the hook of o_proj reads its block scale "
                f"whatever the list says. Without that assert: {text}")
    return f"no error: codes are cast to BF16 and the scales are dropped as redundant keys; {text}"


def _grid(module: object) -> bool:
    """A block grid: no axis of the scale that is longer than 1 has the length of the weight's."""
    weight, scale = module.weight.shape, module.scale.shape  # type: ignore[attr-defined]
    return len(scale) >= 2 and next((n for n in scale if n > 1), 0) not in (0, *weight)


def _firsts(modules: Sequence[Built]) -> list[tuple[str, Built]]:
    found: dict[str, Built] = {}
    for built in modules:
        found.setdefault({"experts": "experts", "attention": "attention", "lm_head": "the head"}.get(built.role.split(".")[0], "dense layers"), built)
    return list(found.items())


def plain_but_built(case: Case, view: View, modules: Sequence[Built]) -> str:
    """What follows where the reader builds modules quantized that hold plain values."""
    first, runtime = modules[0], view.target.runtime
    assert view.claim is not None
    name = (first.fused or first.path).removeprefix("model.")
    if runtime == "neuron":
        if first.role in ("attention.q", "attention.k", "attention.v"):
            return f"KeyError: '{first.path}.scale'"
        return f"RuntimeError: Cannot find {first.path}.scale in state_dict, after the compilation"
    if view.claim.family in PACKED or any(s.fmt == "pack-quantized" for s in view.claim.schemes):
        return f"KeyError: '{name}.w2_weight'" if first.experts else f"KeyError: '{name}.weight'"
    if runtime == "transformers":
        return "no error, a warning of newly initialized scales: the values are cast to FP8 without a scale"
    if runtime == "tensorrt-llm":
        return "AssertionError or KeyError while the layer is made or loaded: its scale is not in the files"
    return "no error: the load is not checked for quantized models, so the scale stays uninitialised; NaN or garbage"

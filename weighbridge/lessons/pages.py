"""`explain WHAT`: one word to one document. Rules, formats, terms, and the lists of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weighbridge.check import pages as rule_pages
from weighbridge.check.pages import SCHEMA
from weighbridge.check.rule import rules
from weighbridge.errors import Usage
from weighbridge.formats.element import CODED, PLAIN
from weighbridge.formats.match import split
from weighbridge.formats.scheme import Role
from weighbridge.formats.schemes import SCHEMES
from weighbridge.lessons import containers, elements, formats, schemes, term, wide

# Other spellings of formats: dtypes of safetensors, of torch and ml_dtypes, and short ones.
_SPELLINGS = {
    "e4m3fn": ("f8-e4m3", "float8-e4m3fn", "ocp-e4m3"),
    "e4m3": ("float8-e4m3", "f8e4m3", "fp8-exp4"),
    "e4m3fnuz": ("f8-e4m3fnuz", "float8-e4m3fnuz"),
    "e5m2": ("f8-e5m2", "float8-e5m2"),
    "e2m1": ("f4", "fp4", "float4-e2m1fn"),
    "e8m0": ("f8-e8m0", "float8-e8m0fnu"),
    "bf16": ("bfloat16",),
    "f16": ("float16", "half", "fp16"),
    "f32": ("float32", "fp32"),
    "int8": ("i8", "w8a8"),
    "int4": ("w4a16",),
}
SPELLED = {word: name for name, words in _SPELLINGS.items() for word in words}

LISTS = ("terms", "formats", "rules", "skip-list")


def known() -> dict[str, str]:
    """{word as it is looked up: the name of its page}: formats, terms, and their other spellings."""
    found = {name: name for name in (*SCHEMES, *elements.elements(), *formats.SMALL, *containers.CONTAINERS, *wide.WIDE)} | SPELLED
    for name, held in term.terms().items():
        found |= {term.plain(word): name for word in (name, *held.also)}
    return found


def document(what: str) -> dict[str, Any]:
    """The page of `what`. Raises Usage with the nearest names for an unknown word."""
    word = term.plain(what)
    if word in ("terms", "formats"):
        return listing(word)
    name = known().get(word)
    for held, page in ((formats.SMALL, formats.document), (containers.CONTAINERS, containers.document), (wide.WIDE, wide.document),
                       (elements.elements(), elements.document), (SCHEMES, schemes.document), (term.terms(), term.document)):
        if name in held:
            return page(name)
    code = what.strip().upper()
    if word in ("rules", "skip-list") or code in rules() or any(word == loaded.rule.name for loaded in rules().values()):
        return {"kind": "rule", **rule_pages.document(code if code in rules() else word)}
    raise unknown(what)


def listing(what: str = "terms") -> dict[str, Any]:
    """All words that have a page; of `formats`, those of number formats and schemes."""
    told = {name: form.says for name, form in {**formats.SMALL, **containers.CONTAINERS, **wide.WIDE}.items()}
    told |= {name: elements.says(form) for name, form in elements.elements().items()}
    return {"schema": SCHEMA, "what": what, "kind": what, "schemes": schemes.listing(),
            "terms": [{"name": name, "says": held.says.rstrip("."), "picture": held.figure is not None, "also": list(held.also)}
                      for name, held in term.terms().items()],
            "formats": [{"name": name, "says": says, "picture": name not in elements.elements(), "also": sorted(s for s, n in SPELLED.items() if n == name)}
                        for name, says in told.items()]}


def refuse_checkpoint(what: str) -> None:
    """Raises Usage where WHAT is a checkpoint and no word: a tensor is missing, and three are named."""
    word = term.plain(what)
    if not word or word in known() or word in LISTS or what.strip().upper() in rules() or not (_exists(what) or "://" in what):
        return
    hint = f"weighbridge explain {what} TENSOR"
    if _exists(what):
        from weighbridge.checkpoint.source import open_checkpoint

        named = some_tensors(open_checkpoint(what, lenient=True).tensors)
        hint += f"; it has {', '.join(named)}" if named else "; but no safetensors file is in it"
    raise Usage("a checkpoint is given, and no tensor of it", what, hint)


def _exists(what: str) -> bool:
    try:
        path = Path(os.path.expanduser(what))
        return path.is_dir() or path.suffix == ".safetensors" and path.is_file()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a zero byte, or of nobody's home
        return False


def some_tensors(tensors: Mapping[str, Any], count: int = 3) -> list[str]:
    """A few names worth looking at: quantized weights first, from different roles."""
    from weighbridge.formats.match import roles

    role_at = roles()
    coded = {name: role_at.get(split(name)[1]) is Role.CODE for name in tensors}
    ranked = sorted((not coded[name] or t.dtype in PLAIN, t.dtype not in CODED, not coded[name], name) for name, t in tensors.items())
    chosen: dict[str, str] = {}
    for *_, name in ranked:
        words = name.split(".")
        chosen.setdefault(words[-2] if len(words) > 1 else name, name)
        if len(chosen) == count:
            break
    return list(chosen.values())


def unknown(what: str) -> Usage:
    """The refusal of a word, with what is spelled alike."""
    from difflib import get_close_matches

    word = term.plain(what[:60])
    words = known() | {code.lower(): code for code in rules()} | {loaded.rule.name: loaded.rule.name for loaded in rules().values()}
    words |= {"rules": "rules", "skip-list": "skip-list", "terms": "terms"}
    inside = sorted((w for w in words if word and (w.startswith(word) or (len(word) > 3 and word in w))),
                    key=lambda w: (not w.startswith(word), len(w), w))
    near = [words[w] for w in (*inside[:8], *get_close_matches(word, words, 4, 0.65))]
    told = f"near it: {', '.join(dict.fromkeys(near))}; " if near else ""
    if "/" in what:
        told = "a checkpoint needs a tensor: weighbridge explain SRC TENSOR; " + told
    return Usage(f"nothing is known of {what!r:.60}", "explain",
                 f"{told}weighbridge explain terms lists all words, weighbridge explain rules all rules")

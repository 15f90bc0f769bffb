"""Makes docs/api.md, the Python face, from signatures and docstrings. `python docs/make_site.py` calls it; a test holds that the page is up to date."""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import Any

WIDTH = 100  # of a signature in one line

HEAD = """<!-- Made by docs/make_site.py from the docstrings. -->

# The Python API

```python
import weighbridge as wb

model = wb.open("MiniMax-M2")                        # headers only
print(model.inspect()["parameters"])
plan = model.plan("neuron", attention="exact", tp=64)
model.convert("M2-neuron", "neuron", attention="exact", tp=64)
assert model.verify("M2-neuron")["ok"]
```

Each verb of the command line is one method with a plain result: a dictionary with `schema` ([JSON documents](schema.md)), or an object that is told below.
`import weighbridge` loads neither numpy nor numba; each name loads what it needs when it is first used.
"""


def page() -> str:
    """The whole page."""
    import weighbridge as wb
    from weighbridge import torch_view
    from weighbridge.convert.run import Result
    from weighbridge.engine.generate import Model as Talker
    from weighbridge.engine.generate import Piece, Timing
    from weighbridge.errors import Problem, Usage
    from weighbridge.plan.plan import Plan

    parts = [HEAD, "## Questions and answers\n", _function("wb.open", wb.open), _function("wb.explain", wb.explain), _class("wb.Model", wb.Model, "weighbridge.Model"),
             "## A conversion\n", _class("Plan", Plan, "weighbridge.plan.plan.Plan"), _class("Result", Result, "weighbridge.convert.run.Result"),
             "## A model that runs\n", _function("wb.load", wb.load), _class("Model", Talker, "weighbridge.engine.generate.Model"),
             _class("Piece", Piece, "weighbridge.engine.generate.Piece"), _class("Timing", Timing, "weighbridge.engine.generate.Timing"),
             "## torch\n", _function("wb.to_torch", wb.to_torch), _class("TorchView", torch_view.TorchView, "weighbridge.torch_view.TorchView"),
             "## Errors\n", _class("wb.WeighbridgeError", wb.WeighbridgeError, "weighbridge.WeighbridgeError"),
             _class("wb.Refused", wb.Refused, "weighbridge.Refused"), _class("Usage", Usage, "weighbridge.errors.Usage"),
             _class("Problem", Problem, "weighbridge.errors.Problem")]
    return "\n".join(parts).rstrip() + "\n"


def _class(shown: str, kind: type, place: str) -> str:
    """A class, its fields, and its public methods in the order of the source."""
    fields = [f"`{name}`: `{_hint(hint)}`" for name, hint in inspect.get_annotations(kind).items() if not name.startswith("_")]
    lines = [f"### {shown}\n", f"*class* `{place}`\n", _doc(kind), f"Fields: {', '.join(fields)}\n" if fields else ""]
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, (property, cached_property)):
            lines.append(_attribute(name, member.fget if isinstance(member, property) else member.func))
        elif inspect.isfunction(member):
            lines.append(_function(f".{name}", member, method=True))
    return "\n".join(line for line in lines if line)


def _attribute(name: str, getter: Any) -> str:
    hint = _hint(inspect.get_annotations(getter).get("return", ""))
    told = inspect.getdoc(getter)
    return f"`.{name}`: `{hint}`{f'. {told}' if told else ''}\n"


def _function(shown: str, function: Any, method: bool = False) -> str:
    """A function or method: the signature as written, then its docstring."""
    signature = inspect.signature(function)
    words: list[str] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not any(word.startswith("*") for word in words):
            words.append("*")
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        words += [] if name == "self" else [f"{star}{name}: {_hint(parameter.annotation)}{default}"]
    back = f" -> {_hint(signature.return_annotation)}"
    written = f"{shown.lstrip('.')}({', '.join(words)}){back}"
    if len(written) > WIDTH:
        written = f"{shown.lstrip('.')}(\n" + "".join(f"    {word},\n" for word in words) + f"){back}"
    return f"{'####' if method else '###'} {shown}\n\n```python\n{written}\n```\n\n{_doc(function)}"


def _hint(annotation: Any) -> str:
    """An annotation as it is written in the source."""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", None) or getattr(annotation, "__name__", str(annotation))


def _doc(thing: Any) -> str:
    """The docstring of its own; a class that has none (or one that Python made) says nothing."""
    own = thing.__doc__ if not isinstance(thing, type) else vars(thing).get("__doc__")
    if not own or own.startswith(f"{getattr(thing, '__name__', '')}("):
        return ""
    return inspect.cleandoc(own).replace("`docs/schema.md`", "[JSON documents](schema.md)") + "\n"


def pages() -> dict[str, str]:
    """{file below docs/: text}."""
    return {"api.md": page()}

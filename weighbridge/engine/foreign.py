"""Activations that another recorder wrote: a folder of safetensors, and a mapping file that says what its tensors are.

The mapping file is JSON: `{"sequences": [[ids of the prompt]], "names": {foreign name: stage or {"name", "steps"}}}`. `{l}` in
both names stands for the number of a layer. Steps are done in order: `{"transpose": [axes]}`, `{"reshape": [sizes]}`, `{"take":
[[start, stop] or null for each axis]}`. They only move values; what comes out must be [positions, width].
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from weighbridge.checkpoint.header import Tensor
from weighbridge.engine.capture import DTYPES, NAME, Files, Recorded, headers, read_json, sequence_problems, stage_problem
from weighbridge.errors import Problem, Refused

LAYER = "{l}"


class Step(msgspec.Struct, forbid_unknown_fields=True):
    """One of the three."""

    transpose: list[int] | None = None
    reshape: list[int] | None = None
    take: list[tuple[int, int] | None] | None = None


class Target(msgspec.Struct, forbid_unknown_fields=True):
    """A stage, and what has to be done to the foreign tensor first."""

    name: str
    steps: list[Step] = []


class Names(msgspec.Struct, forbid_unknown_fields=True):
    """The mapping file."""

    sequences: list[list[int]]
    names: dict[str, str | Target]


def read(folder: Path, names: Path, mapped: Files) -> tuple[list[Recorded], dict[str, np.ndarray]]:
    """Sequences and stages of a foreign folder. Raises Refused with all that does not fit."""
    mapping = read_json(names, Names)
    recorded = [Recorded(ids) for ids in mapping.sequences]
    problems = sequence_problems(recorded, str(names)) + _name_problems(mapping, str(names))
    files = sorted(path.name for path in folder.glob("*.safetensors")) if folder.is_dir() else []
    if not files:
        problems.append(Problem("no-weights", "no .safetensors file here", str(folder), "give the folder that holds the recorded activations"))
    found, wrong = headers(folder, files)
    if problems + wrong:
        raise Refused(problems + wrong)
    arrays: dict[str, np.ndarray] = {}
    positions = sum(len(each.ids) for each in recorded)
    for tensor, stage, steps in _matches(mapping, found):
        where = f"{folder / tensor.file}: {tensor.name[:200]}"
        array, problem = _moved(mapped, tensor, steps)
        problem = problem or stage_problem(stage, array.shape, tensor.dtype, positions) or ("a second tensor for this stage" if stage in arrays else "")
        if problem:
            problems.append(Problem("capture", f"as {stage}: {problem}", where, f"change its entry in {names.name}: docs/bring-up.md shows the steps"))
        else:
            arrays[stage] = array
    if not arrays and not problems:
        some = sorted(name for tensors in found.values() for name in tensors)[:3]
        problems.append(Problem("capture", f"no tensor of the folder is named here; it holds {', '.join(some)}", str(names)))
    if problems:
        raise Refused(problems)
    return recorded, arrays


def _name_problems(mapping: Names, where: str) -> list[Problem]:
    problems = []
    for foreign, target in mapping.names.items():
        stage = target if isinstance(target, str) else target.name
        if foreign.count(LAYER) > 1 or foreign.count(LAYER) != stage.count(LAYER):
            problems.append(Problem("capture", f"{LAYER} stands {foreign.count(LAYER)} times in the foreign name and {stage.count(LAYER)} times in {stage[:80]!r}",
                                    f"{where}: {foreign[:200]}", f"write {LAYER} once in both, or in none"))
        elif not NAME.fullmatch(stage.replace(LAYER, "0")):
            problems.append(Problem("capture", f"{stage[:80]!r} is no stage", f"{where}: {foreign[:200]}",
                                    f"stages: embed, layers.{LAYER}.attn, .router, .chosen, .experts, .block, norm, logits"))
    return problems


def _matches(mapping: Names, found: dict[str, dict[str, Tensor]]) -> Iterator[tuple[Tensor, str, list[Step]]]:
    """Each foreign tensor that the mapping names, with its stage and steps."""
    rules = [(re.compile(r"(0|[1-9]\d{0,3})".join(re.escape(part) for part in foreign.split(LAYER))), target) for foreign, target in mapping.names.items()]
    for tensors in found.values():
        for name, tensor in tensors.items():
            for pattern, target in rules:
                match = pattern.fullmatch(name)
                if match:
                    stage, steps = (target, []) if isinstance(target, str) else (target.name, target.steps)
                    yield tensor, stage.replace(LAYER, match[1]) if match.lastindex else stage, steps
                    break


def _moved(files: Files, tensor: Tensor, steps: list[Step]) -> tuple[np.ndarray, str]:
    """The tensor after its steps, and what could not be done. Leading axes of one (a batch) go at the end."""
    if tensor.dtype not in DTYPES:
        return np.empty((0, 0)), f"is {tensor.dtype}; known: {', '.join(DTYPES)}"
    array: Any = files.array(tensor)
    for step in steps:
        try:
            array = _step(array, step)
        except (ValueError, IndexError, TypeError, OverflowError) as error:
            return array, f"{msgspec.json.encode(step, order='sorted').decode()[:200]} cannot be done to {list(array.shape)}: {error}"
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    return array, ""


def _step(array: np.ndarray, step: Step) -> np.ndarray:
    given = [value for value in (step.transpose, step.reshape, step.take) if value is not None]
    if len(given) != 1:
        raise ValueError(f"{len(given)} of transpose, reshape, take in one step, not 1")
    if step.transpose is not None:
        return array.transpose(step.transpose)
    if step.reshape is not None:
        return array.reshape(step.reshape)
    assert step.take is not None
    if len(step.take) != array.ndim:
        raise ValueError(f"{len(step.take)} ranges for {array.ndim} axes")
    for (start, stop), size in ((pair, size) for pair, size in zip(step.take, array.shape, strict=True) if pair):
        if not 0 <= start < stop <= size:
            raise ValueError(f"[{start}, {stop}] is no range of {size}")
    return array[tuple(slice(*pair) if pair else slice(None) for pair in step.take)]

"""All tensors in groups, for a page that finds any of them by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from weighbridge.check.case import Case
from weighbridge.formats.kinds import kind_of_dtype
from weighbridge.overview.groups import Box, Kindred, Member, Numbers, boxes, inside

if TYPE_CHECKING:
    from weighbridge.overview.ways import Ways


def tensors(case: Case, kindreds: list[Kindred], ways: Ways | None) -> dict[str, Any]:
    """`files`, `total` and `groups`: each a name with places, ranges, and what all of its tensors have in common."""
    files = {file: number for number, file in enumerate(case.checkpoint.headers)}
    groups: list[dict[str, Any]] = []
    for kindred in kindreds:
        for way, members in _by_way(kindred, ways).items():
            for box in boxes(members):
                _add(groups, kindred, members, box, files, way)
    return {"files": list(files), "total": len(case.checkpoint.tensors), "groups": groups}


def _by_way(kindred: Kindred, ways: Ways | None) -> dict[int, dict[Numbers, Member]]:
    if ways is None:
        return {-1: kindred.members}
    found: dict[int, dict[Numbers, Member]] = {}
    of = ways.of
    for numbers, member in kindred.members.items():
        found.setdefault(of.get(id(member.tensor), -1), {})[numbers] = member
    return found


def _add(groups: list[dict[str, Any]], kindred: Kindred, members: dict[Numbers, Member], box: Box, files: dict[str, int], way: int) -> None:
    chosen = [members[numbers] for numbers in inside(box)]
    first = chosen[0]
    row = {"name": kindred.template, "ranges": [list(ends) for ends in box], "dtype": first.tensor.dtype, "shape": list(first.tensor.shape),
           "kind": kindred.leaf.kind.word(first.tensor.dtype), "role": kindred.key.role, "bytes": first.tensor.nbytes, "scale": -1,
           "files": _runs(files[member.tensor.file] for member in chosen), "way": way}
    groups.append(row)
    if first.scale is not None:
        row["scale"] = len(groups)
        groups.append({"name": kindred.scale, "ranges": row["ranges"], "dtype": first.scale.dtype, "shape": list(first.scale.shape),
                       "kind": kind_of_dtype(first.scale.dtype), "role": kindred.key.role, "bytes": first.scale.nbytes, "scale": -1,
                       "files": _runs(files[m.scale.file] for m in chosen if m.scale is not None), "way": way})


def _runs(numbers: Iterable[int]) -> list[list[int]]:
    """[how often, number] of runs."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1][0] += 1
        else:
            runs.append([1, number])
    return runs

"""A plan as a file: written to be read and reviewed, applied only if it is still what the source gives."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from weighbridge.version import __version__
from weighbridge.convert.run import plan_document
from weighbridge.convert.sidecars import json_bytes
from weighbridge.errors import WeighbridgeError
from weighbridge.layouts.options import Options
from weighbridge.plan.plan import Plan

LIMIT = 1 << 30  # bytes


def save(plan: Plan, destination: Path | None, file: Path) -> None:
    """Write the plan: source, options, cost and every piece."""
    try:
        write(file, json_bytes({
            "schema": "weighbridge.plan/1", "version": __version__, "digest": plan.digest,
            "source": str(Path(plan.source.checkpoint.label).resolve()), "source_digest": plan.source.checkpoint.digest,
            "destination": None if destination is None else str(destination.resolve()),
            **plan_document(plan), "table": table(plan),
        }))
    except UnicodeEncodeError as error:
        raise WeighbridgeError("plan-file", "source or destination have a path that is no UTF-8, and a plan file is UTF-8", str(file),
                               "reach them by a link whose path is UTF-8") from error
    except OSError as error:
        raise WeighbridgeError("io", f"cannot be written: {error.strerror}", str(file), "give another file to --plan") from error


def write(file: Path, data: bytes) -> None:
    """A file under its name only when it is whole."""
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(data)
    partial.replace(file)


def table(plan: Plan) -> list[dict[str, Any]]:
    """Every piece: what it reads, what it does, where it writes. Corners and sizes are stored rows and columns."""
    names = [b.weight.name for b in plan.source.bound]
    return [
        {"to": t.stored.name, "at": [p.part.lead, p.part.at_row, p.part.at_col], "size": list(p.part.extent), "step": p.step.name,
         "turned": p.part.turned, "from": [{"name": names[f.source], "at": [f.lead, f.row, f.col],
                                            "size": [f.lcols, f.lrows] if f.turned else [f.lrows, f.lcols]} for f in p.fragments]}
        for t in plan.targets for p in t.pieces
    ]


def load(file: Path) -> dict[str, Any]:
    """Read a plan file. Nothing in it is trusted: `matches` compares it with a plan made anew."""
    try:
        if file.stat().st_size > LIMIT:
            raise WeighbridgeError("plan-file", f"{file.stat().st_size:,} bytes, the limit is {LIMIT:,}", str(file))
        value = msgspec.json.decode(file.read_bytes())
    except OSError as error:
        raise WeighbridgeError("not-found", f"cannot be read: {error.strerror}", str(file), "name the file that --plan wrote") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WeighbridgeError("plan-file", f"is not JSON: {error}", str(file), "write it again with --plan") from error
    if not isinstance(value, dict) or value.get("schema") != "weighbridge.plan/1":
        raise WeighbridgeError("plan-file", "is not a plan of this tool", str(file), "write it again with --plan")
    return value


def options(stated: dict[str, Any]) -> dict[str, Any]:
    """The options of a plan file as keyword arguments, by known names only."""
    given = stated.get("options")
    if not isinstance(given, dict):
        raise WeighbridgeError("plan-file", "has no options", "options", "write it again with --plan")
    known = {f.name for f in fields(Options)}
    chosen = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if k in known}
    try:
        Options(**chosen)
    except (TypeError, ValueError) as error:
        raise WeighbridgeError("plan-file", f"options cannot be read: {error}", "options", "write it again with --plan") from error
    return chosen


def require_same(plan: Plan, stated: dict[str, Any], file: Path) -> None:
    """Refuse when the plan made now is not the plan that was reviewed."""
    if plan.digest != stated.get("digest"):
        raise WeighbridgeError("plan-stale", f"the file says {str(stated.get('digest'))[:12]}, the source gives {plan.digest[:12]} now", str(file),
                               "source, options or version have changed: write the plan again and review it")
    if table(plan) != stated.get("table"):
        raise WeighbridgeError("plan-stale", "the pieces in the file are not those that the source gives", str(file),
                               "the file was edited: write the plan again")

"""`--fix DIR`: the corrected configuration files, written beside the originals' place, never over them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from weighbridge.check.finding import Edit, Finding, Remove
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.errors import Usage, WeighbridgeError

FILES = ("config.json", "neuron_config.json", "hf_quant_config.json", "generation_config.json", "model.safetensors.index.json")


def mended(checkpoint: Checkpoint, found: Iterable[Finding], neuron: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """{file: its new content} of all edits of the findings; `neuron` are the settings that the user gave for a neuron_config.json. Raises Usage where two findings want different values at one place."""
    wanted: dict[tuple[str, tuple[str, ...]], tuple[Edit, Finding]] = {}
    for finding in found:
        for edit in finding.fix.edits:
            before = wanted.setdefault((edit.file, edit.path), (edit, finding))
            if before[0].value != edit.value:
                raise Usage(f"{before[1].runtime or before[1].code} and {finding.runtime or finding.code} want different values for {'.'.join(edit.path)}",
                            f"--fix: {edit.file}", "mend for one reader at a time: --runtime " + (finding.runtime or "NAME"))
    files: dict[str, dict[str, Any]] = {}
    for edit, _ in wanted.values():
        if edit.file not in FILES:
            raise WeighbridgeError("internal", f"a rule edits {edit.file}", edit.file)
        if edit.file not in files:
            own = neuron if edit.file == "neuron_config.json" and neuron else checkpoint.json(edit.file)
            files[edit.file] = copy.deepcopy(own or {})
        _apply(files[edit.file], edit)
    return files


def _apply(content: dict[str, Any], edit: Edit) -> None:
    *parents, last = edit.path
    for key in parents:
        inner = content.get(key)
        if not isinstance(inner, dict):
            inner = content[key] = {}
        content = inner
    if edit.value is Remove:
        content.pop(last, None)
    else:
        content[last] = edit.value


def write(files: dict[str, dict[str, Any]], folder: Path, source: Path | None) -> list[str]:
    """Write them into `folder`; returns their names. Refuses the checkpoint's own folder, and files that are there already."""
    if source is not None and folder.resolve() == source.resolve():
        raise WeighbridgeError("fix-over-source", "is the checkpoint's own folder; originals are never changed", str(folder), "give another folder to --fix")
    taken = [name for name in files if (folder / name).exists()]
    if taken:
        raise WeighbridgeError("fix-exists", f"{', '.join(taken)} is there already", str(folder), "give a new folder to --fix")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    except OSError as error:
        raise WeighbridgeError("io", f"cannot be written: {error.strerror}", str(folder), "give another folder to --fix") from error
    return list(files)

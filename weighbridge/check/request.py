"""From flags, configuration files and a reader's command line to one request. Flags win over files, files over the command line."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.check.run import targets
from weighbridge.check.settings import Settings, Target
from weighbridge.errors import Usage


@dataclass(frozen=True)
class Request:
    targets: tuple[Target, ...]
    settings: Settings
    files: dict[str, bytes]  # files of the configuration that replace the checkpoint's own


def request(runtimes: Sequence[str], command: str | None, configs: Sequence[str], memory: str | None, flags: Mapping[str, Any],
            present: Collection[str] = ()) -> Request:
    """Put the three together. `present` are the names of the checkpoint's own files; `sources` of the settings tells where each came from."""
    from weighbridge.check.configfile import joined, parse_size, read_files

    fields: dict[str, Any] = {"neuron": {}, "environment": {}, "sources": {}}
    files: dict[str, bytes] = {}
    named, paths, share = list(runtimes), [Path(text) for text in configs], 0.0
    if command:
        from weighbridge.check.commandline import read_command

        read = read_command(_words(command))
        fields = joined(fields, read.fields)
        paths, share = [Path(text) for text in read.files] + paths, read.memory_share
        if read.runtime not in [name.partition("@")[0] for name in named]:
            named.append(read.runtime)
    if paths:
        found = read_files(paths, present, named[0].partition("@")[0] if named else "")
        fields = joined(fields, found.fields)
        files, share = found.overlay, found.memory_share or share
    given = {name: value for name, value in flags.items() if value}
    if memory:
        given["device_memory"] = parse_size(memory, "--device-memory")
    fields = joined(fields, given)
    for name in given:
        fields["sources"][name] = f"--{name.replace('_', '-')}"
    if share and fields.get("device_memory"):
        fields["device_memory"] = int(fields["device_memory"] * share)
        fields["sources"]["device_memory"] = f"{share:g} of --device-memory"
    return Request(targets(named), Settings(**fields), files)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise Usage(f"cannot be read as a command line: {error}", "--command", "close the quotes") from error

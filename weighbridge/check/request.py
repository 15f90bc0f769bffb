"""From flags, configuration files and a reader's command line to one request. Flags win over files, files over the command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.check.run import targets
from weighbridge.check.settings import Settings, Target
from weighbridge.errors import Usage


@dataclass(frozen=True)
class Request:
    targets: tuple[Target, ...]
    settings: Settings
    files: dict[str, bytes]  # files of the configuration that replace the checkpoint's own


def request(runtimes: Sequence[str], command: str | None, configs: Sequence[str], memory: str | None, flags: Mapping[str, Any]) -> Request:
    """Put the three together. `sources` of the settings tells where each came from."""
    fields: dict[str, Any] = {"neuron": {}, "environment": {}, "sources": {}}
    files: dict[str, bytes] = {}
    named = list(runtimes)
    if command:
        from weighbridge.check.commandline import settings_from

        try:
            words = shlex.split(command)
        except ValueError as error:
            raise Usage(f"cannot be read as a command line: {error}", "--command", "close the quotes") from error
        reader, found = settings_from(words)
        _merge(fields, found)
        if reader not in [name.partition("@")[0] for name in named]:
            named.append(reader)
    if configs:
        from weighbridge.check.configfile import read_configs

        found, files = read_configs(configs)
        _merge(fields, found)
    given = {name: value for name, value in flags.items() if value}
    if memory:
        from weighbridge.check.configfile import parse_size

        given["device_memory"] = parse_size(memory, "--device-memory")
    _merge(fields, given)
    for name in given:
        fields["sources"][name] = f"--{name.replace('_', '-')}"
    return Request(targets(named), Settings(**fields), files)


def _merge(into: dict[str, Any], found: Mapping[str, Any]) -> None:
    for name, value in found.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            into[name] = {**into[name], **value}
        else:
            into[name] = value

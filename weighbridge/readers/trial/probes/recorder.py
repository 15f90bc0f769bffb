"""What a load writes and what it reads, seen from below the reader: every torch operation while weights are loaded. Needs torch.

Large copies are looked at and not done: their shapes must fit by torch's own rule, and the memory of the parameter stays untouched, so a model of
any size is loaded in little memory. Small ones are done, since a reader may look at values of scales.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_EXPERT = re.compile(r"experts\.\d+\.")
LARGE = 1 << 16  # bytes of a copy that is not done
TEXT = "large weights are holes: a copy is checked for its shape and not done; values are not looked at"


class Sources:
    """Tensors as a reader got them from files, by their addresses."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[tuple[int, str]] = []
        self.names: set[str] = set()
        self.used: set[str] = set()
        self.kept: list[torch.Tensor] = []  # so that no address is used twice
        self._sorted = True

    def add(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        self.names.add(name)
        if tensor.numel() == 0:
            self.used.add(name)
            return tensor
        self.kept.append(tensor)
        start = tensor.data_ptr()
        self.starts.append(start)
        self.ends.append((start + tensor.numel() * tensor.element_size(), name))
        self._sorted = self._sorted and (len(self.starts) < 2 or self.starts[-2] <= start)
        return tensor

    def find(self, tensor: torch.Tensor) -> str | None:
        """The tensor of the files in whose memory this one lies."""
        if tensor.device.type != "cpu" or not self.starts or tensor.numel() == 0:
            return None
        if not self._sorted:
            pairs = sorted(zip(self.starts, self.ends, strict=True))
            self.starts, self.ends = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            self._sorted = True
        address = tensor.data_ptr()
        place = bisect_right(self.starts, address) - 1
        return self.ends[place][1] if place >= 0 and address < self.ends[place][0] else None

    def use(self, tensor: torch.Tensor) -> None:
        name = self.find(tensor)
        if name is not None:
            self.used.add(name)

    def ignored(self, elsewhere: bool) -> list[str]:
        """Tensors that nothing read. `elsewhere`: other ranks hold experts, so an expert whose neighbours in its layer were read is another rank's."""
        left = self.names - self.used
        if elsewhere:
            kinds = {_EXPERT.sub("experts.*.", name) for name in self.used}
            left = {name for name in left if _EXPERT.sub("experts.*.", name) not in kinds}
        return sorted(left)


class Recorder(TorchDispatchMode):
    """Active while weights are loaded. `written` has the regions of each storage that were written."""

    def __init__(self, sources: Sources) -> None:
        super().__init__()
        self.sources = sources
        self.written: dict[int, set[tuple[int, tuple[int, ...], tuple[int, ...]]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        schema = func._schema
        view = not schema.is_mutable and any(one.alias_info is not None for one in schema.returns)
        if not view:
            for position, value in enumerate(args):
                writes = position < len(schema.arguments) and getattr(schema.arguments[position].alias_info, "is_write", False)
                for tensor in _tensors(value):
                    if writes:
                        self._write(tensor)
                    else:
                        self.sources.use(tensor)
            for value in kwargs.values():
                for tensor in _tensors(value):
                    self.sources.use(tensor)
        if func is torch.ops.aten.copy_.default and args[0].numel() * args[0].element_size() > LARGE:
            _must_fit(args[0], args[1])
            return args[0]
        return func(*args, **kwargs)

    def _write(self, tensor: torch.Tensor) -> None:
        if tensor.device.type == "cpu":
            key = tensor.untyped_storage().data_ptr()
            self.written.setdefault(key, set()).add((tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride())))

    def filled(self, parameter: torch.Tensor) -> tuple[int, int]:
        """(values that were written, values that there are). What has its storage from a file is filled."""
        total = parameter.numel()
        if total == 0 or parameter.device.type != "cpu":
            return total, total
        if self.sources.find(parameter) is not None:
            return total, total
        count = 0
        for _, shape, _ in self.written.get(parameter.untyped_storage().data_ptr(), ()):
            size = 1
            for one in shape:
                size *= one
            count += size
        return min(count, total), total


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            if isinstance(one, torch.Tensor):
                yield one


def _must_fit(target: torch.Tensor, source: torch.Tensor) -> None:
    torch.empty(target.shape, device="meta").copy_(torch.empty(source.shape, device="meta"))


def unfilled(model: torch.nn.Module, recorder: Recorder, optional: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Names of parameters that no tensor filled, and in words those that were filled in part. `optional` are endings that a reader may leave."""
    names, partly = [], []
    for name, parameter in model.named_parameters():
        done, total = recorder.filled(parameter.data)
        if done < total and not name.endswith(optional):
            names.append(name)
            if done:
                partly.append(f"{name}: {done:,} of {total:,} values")
    return names, partly

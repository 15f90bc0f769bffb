"""What NxD's `get_state_dict` would return, one torch tensor at a time. The only module that imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from weighbridge.convert.fill import slab_bytes
from weighbridge.convert.shape import bare, file_shape, slabs
from weighbridge.formats.values import Scratch
from weighbridge.errors import WeighbridgeError
from weighbridge.formats.scheme import Field, Role
from weighbridge.layouts import neuron
from weighbridge.plan.plan import Plan, Resolver, Target
from weighbridge.plan.reader import require_scales


class TorchView(Mapping[str, Any]):
    """A lazy state dict: names at once, each tensor when it is asked for.

    For `neuron` the names are those of the *converted* stage (attention under `qkv_proj.`, norms padded,
    rank tensors added); for other layouts those of the files. FP8 weights are `torch.float8_e4m3fn`.
    """

    def __init__(self, plan: Plan) -> None:
        try:
            import torch
        except ImportError as error:
            raise WeighbridgeError("no-torch", "torch is not installed", "to_torch", "pip install 'weighbridge[torch]'") from error
        plan.refuse()
        self.torch, self.plan, self.reader = torch, plan, require_scales(plan.source)
        targets = plan.targets
        if plan.layout == "neuron":
            resolver = Resolver(plan.source, plan.options, plan.layout)
            targets = [resolver.target(s) for s in neuron.converted(plan.inventory, plan.options)]
        weights = {bare(t.stored.field_name(f)): (t, f) for t in targets for f in t.fields if f.role is Role.CODE}
        self._fields = weights | {bare(t.stored.field_name(f)): (t, f) for t in targets for f in t.fields}

    def __len__(self) -> int:
        return len(self._fields)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __getitem__(self, name: str) -> Any:
        target, field = self._fields[name]
        return self._as_torch(self._bytes(target, field), field.dtype).reshape(target.stored.field_shape(field))

    def _as_torch(self, raw: np.ndarray, dtype: str) -> Any:
        torch = self.torch
        kinds = {"F8_E4M3": torch.float8_e4m3fn, "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "I32": torch.int32, "I64": torch.int64,
                 "I8": torch.int8, "U8": torch.uint8}
        return torch.from_numpy(raw).view(kinds[dtype])

    def _bytes(self, target: Target, field: Field) -> np.ndarray:
        """All bytes of one field of a target, uint8."""
        if target.stored.constant is not None:
            return np.asarray(target.stored.constant, np.int32).view(np.uint8)
        shape = file_shape("", [target])
        (place,) = shape.places
        start = place.offsets[target.fields.index(field)]
        out = np.zeros(target.field_bytes(field), np.uint8)
        for slab in slabs(shape):
            for offset, data in slab_bytes(self.reader, slab, Scratch())[0]:
                if start <= offset < start + out.size:
                    out[offset - start : offset - start + data.nbytes] = data.reshape(-1).view(np.uint8)
        return out

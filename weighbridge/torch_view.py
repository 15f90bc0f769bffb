"""What NxD's `get_state_dict` would return, one torch tensor at a time. The only module that imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from weighbridge.convert.apply import Scratch, Slab, apply, scale_rows
from weighbridge.convert.shape import bare
from weighbridge.encoding.qtensor import CONTAINER
from weighbridge.errors import WeighbridgeError
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
            resolver = Resolver(plan.source, plan.options)
            targets = [resolver.target(s) for s in neuron.converted(plan.inventory, plan.options)]
        self._weights = {bare(t.stored.name): t for t in targets}
        self._scales = {bare(t.stored.scale_name): t for t in targets if t.encoding.quantized}

    def __len__(self) -> int:
        return len(self._weights) + len(self._scales)

    def __iter__(self) -> Iterator[str]:
        yield from self._weights
        yield from self._scales

    def __getitem__(self, name: str) -> Any:
        with self.reader.unchanged():
            if name in self._weights:
                return self._as_torch(self._arrays(self._weights[name])[0], self._weights[name].encoding.dtype)
            if name in self._scales:
                return self._as_torch(self._arrays(self._scales[name])[1], self._scales[name].encoding.scale_dtype)
            raise KeyError(name)

    def _as_torch(self, array: np.ndarray, dtype: str) -> Any:
        torch = self.torch
        kinds = {"F8_E4M3": torch.float8_e4m3fn, "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "I32": torch.int32}
        raw = torch.from_numpy(array.view(np.int16) if dtype == "BF16" else array)
        return raw.view(kinds[dtype])

    def _arrays(self, target: Target) -> tuple[np.ndarray, np.ndarray]:
        """Weight and scale of one target, whole (an empty scale where there is none)."""
        stored, encoding = target.stored, target.encoding
        placed = stored.placement
        if stored.constant is not None:
            return np.asarray(stored.constant, np.int32).reshape(stored.shape), np.empty(0, np.float32)
        codes = np.zeros((placed.lead, placed.rows, placed.cols), CONTAINER[encoding.dtype])
        scales = []
        for lead in range(placed.lead):
            grid = np.full(encoding.grid((placed.rows, placed.cols)), np.nan, np.float32) if encoding.quantized else None
            slab = Slab(stored.name, encoding, lead, 0, codes[lead], grid)
            for piece in target.pieces:
                if piece.part.lead == lead:
                    apply(self.reader, piece, piece.part, slab, Scratch())
            if grid is not None:
                scales.append(scale_rows(stored, encoding, grid))
        scale = np.stack(scales).reshape(stored.scale_shape(encoding)) if scales else np.empty(0, np.float32)
        return codes.reshape(stored.shape), scale

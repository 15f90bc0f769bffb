"""What a conversion asks of its source."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from weighbridge.checkpoint.header import Tensor
from weighbridge.formats.qtensor import QTensor
from weighbridge.layouts.source import Source
from weighbridge.plan.cover import Fragment
from weighbridge.plan.wholes import Wholes


class Reading(Protocol):
    """Where source rectangles come from, and what is known of whole weights."""

    source: Source

    @property
    def wholes(self) -> Wholes: ...

    def rect(self, fragment: Fragment, row: int, col: int, rows: int, cols: int) -> QTensor:
        """A logical rectangle inside `fragment`, in logical axes."""
        ...

    def bytes_of(self, tensor: Tensor) -> np.ndarray:
        """All stored bytes of a tensor, uint8."""
        ...

"""Keys and values of the positions that were fed, float32 [layers, kv_heads, capacity, head_dim]."""

from __future__ import annotations

import numpy as np

from weighbridge.errors import WeighbridgeError


def cache_bytes(layers: int, kv_heads: int, head_dim: int, capacity: int) -> int:
    """Bytes of keys and values for `capacity` positions."""
    return 2 * 4 * layers * kv_heads * head_dim * capacity


class KeyValues:
    """One session's keys and values. `layer` counts the layers that run."""

    def __init__(self, layers: int, kv_heads: int, head_dim: int, capacity: int) -> None:
        self.capacity = capacity
        try:
            self.keys, self.values = (np.empty((layers, kv_heads, capacity, head_dim), np.float32) for _ in range(2))
        except (MemoryError, ValueError) as error:
            need = cache_bytes(layers, kv_heads, head_dim, capacity)
            raise WeighbridgeError("memory", f"keys and values of {capacity:,} positions are {need:,} bytes; the machine does not give that much",
                                   "capacity", "ask for fewer positions") from error

    def put(self, layer: int, position: int, keys_TKD: np.ndarray, values_TKD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Store a block from `position` on; returns all keys and values up to its end, [kv_heads, length, head_dim]."""
        end = position + len(keys_TKD)
        self.keys[layer, :, position:end] = keys_TKD.transpose(1, 0, 2)
        self.values[layer, :, position:end] = values_TKD.transpose(1, 0, 2)
        return self.keys[layer, :, :end], self.values[layer, :, :end]

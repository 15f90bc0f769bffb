"""What is in a checkpoint, from its headers alone: data, not text (`report.inspect_text` renders it)."""

from weighbridge.inspection.document import inspect, tensor_list

__all__ = ["inspect", "tensor_list"]

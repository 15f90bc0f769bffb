"""What several readers need in the place of hardware or of libraries that do not load without it. Needs torch."""

from __future__ import annotations

import glob
import importlib.util
import os

import torch


def torchvision() -> list[str]:
    """Define torchvision's two operators that transformers uses unguarded, where torchvision is there and its library does not load."""
    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        return []
    try:
        for library in glob.glob(os.path.join(found.submodule_search_locations[0], "_C*.so")):
            torch.ops.load_library(library)
        if hasattr(torch.ops.torchvision, "nms"):
            return []
    except (OSError, RuntimeError):
        pass
    torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return ["torchvision's operators have names only, since its library does not load"]

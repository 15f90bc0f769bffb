"""The configuration files of an output, as its readers want them: one file for each method, chosen by the layout's row."""

from __future__ import annotations

from importlib import import_module

from weighbridge.layouts.configs.facts import Facts, Held, Written
from weighbridge.layouts.rows import row

__all__ = ["Facts", "Held", "Written", "written"]


def written(facts: Facts) -> Written:
    """Files for the layout that `facts` names. Raises WeighbridgeError where its claim cannot say what is held, Usage for an unknown layout."""
    writer = import_module(f"weighbridge.layouts.configs.{row(facts.layout).writer}")
    made: Written = writer.written(facts)
    return made

"""To which layout the report shows the ways of tensors."""

from __future__ import annotations

from weighbridge.check.case import Case
from weighbridge.layouts import neuron
from weighbridge.layouts.options import Options
from weighbridge.plan.bind import bind
from weighbridge.plan.plan import Plan, make_plan


def plan_to(case: Case, to: str = "") -> Plan:
    """The plan to `to`. Empty: to neuron where the family and its sizes allow it and the files are not there yet, else to hf-bf16.

    Problems are in the plan, which has no targets where the layout cannot hold the model. Raises `WeighbridgeError` for a family that is not known.
    """
    source = bind(case.checkpoint, weights=case.inventory)
    if to:
        return make_plan(source, to, Options(block=source.options.block))
    if source.inventory.model_type == neuron.FAMILY and not source.layout.startswith("neuron"):
        plan = make_plan(source, "neuron", Options(block=source.options.block))
        if plan.targets:
            return plan
    return make_plan(source, "hf-bf16", Options(block=source.options.block))

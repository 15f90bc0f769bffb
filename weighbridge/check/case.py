"""A case: one checkpoint, what its config claims, what the readers would see, and what the user says of the run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from weighbridge.check.modules import Module, Modules
from weighbridge.check.settings import Settings, Target
from weighbridge.check.sizes import ModelSizes, model_sizes
from weighbridge.formats.stated import Stated, stated
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.errors import WeighbridgeError
from weighbridge.formats.claim import Claims, read_claims
from weighbridge.inspection.survey import Survey
from weighbridge.models import Inventory, inventory
from weighbridge.runtimes import Patience


class Case:
    """What rules see. Everything is made when the first rule asks for it. What is worked out from a case is a function elsewhere (`per_case`)."""

    def __init__(self, checkpoint: Checkpoint, targets: tuple[Target, ...] = (), settings: Settings | None = None, scale_bytes: str = "all") -> None:
        self.checkpoint, self.targets, self.settings = checkpoint, targets, settings or Settings()
        self.scale_bytes = scale_bytes
        self.patience = Patience()  # for the matching of all lists

    @property
    def config(self) -> dict[str, Any]:
        return self.checkpoint.config

    @cached_property
    def text_config(self) -> dict[str, Any]:
        """The language model's part of the config."""
        text = self.config.get("text_config")
        return text if isinstance(text, dict) else self.config

    @cached_property
    def claims(self) -> Claims:
        """The claim that is met first (`inspection.claims`); `stated` has them all."""
        return read_claims(self.checkpoint)

    @cached_property
    def stated(self) -> tuple[Stated, ...]:
        """Every place where a quantization config stands, with what it says in common words."""
        return stated(self.checkpoint)

    @cached_property
    def survey(self) -> Survey:
        return Survey(self.checkpoint, self.claims, keep=True)

    @cached_property
    def modules(self) -> Modules:
        return Modules(self.survey)

    @cached_property
    def sizes(self) -> ModelSizes:
        return model_sizes(self.config)

    @cached_property
    def inventory(self) -> Inventory | None:
        """The family's inventory, or None where the family is not known or the config does not describe one (`inventory_problem`)."""
        return self._inventory[0]

    @property
    def inventory_problem(self) -> WeighbridgeError | None:
        return self._inventory[1]

    @cached_property
    def _inventory(self) -> tuple[Inventory | None, WeighbridgeError | None]:
        try:
            return inventory(self.config), None
        except WeighbridgeError as error:
            return None, error

    def beside(self, module: Module, suffix: str) -> Tensor | None:
        """A helper tensor of a module: `case.beside(m, ".input_scale")`."""
        return self.checkpoint.tensors.get(module.path + suffix)

    def read(self, tensor: Tensor, start: int = 0, length: int | None = None) -> bytes:
        """`length` stored bytes of a tensor from `start`, at most to its end. For small tensors and samples."""
        most = max(0, tensor.nbytes - start)
        return self.checkpoint.store.read(tensor.file, tensor.start + start, most if length is None else min(length, most))


T = TypeVar("T")


def per_case(make: Callable[[Case], T]) -> Callable[[Case], T]:
    """A function of a case whose value is made once for each case, when the first rule asks, and goes with it."""
    known: WeakKeyDictionary[Case, T] = WeakKeyDictionary()

    @wraps(make)
    def once(case: Case) -> T:
        if case not in known:
            known[case] = make(case)
        return known[case]

    return once

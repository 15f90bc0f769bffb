"""What a comparison came to, as data: a grade for each weight of A, and everything beside the weights."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

ORDER = {"wrong": 0, "bounded": 1, "exact": 2, "identical": 3}
SHOWN = 1000  # rows and names of one list in the document


@dataclass
class Grade:
    """What one stored weight of A came to. Sums are powers; `bound` is the (relative, absolute) that it must keep.

    `violations` are values outside of the bound, in any copy; `unlike` are codes and scales that are not what `convert` writes.
    """

    name: str
    grade: str = "identical"
    values: int = 0
    signal: float = 0.0
    error: float = 0.0
    max_relative: float = 0.0
    equal: int = 0
    violations: int = 0
    unlike: int = 0
    differs: bool = False  # some value is not equal, in any copy
    bound: tuple[float, float] = (0.0, 0.0)
    first: str = ""

    def settle(self) -> None:
        """The word for what was counted."""
        if self.violations or self.unlike:
            self.grade = "wrong"
        elif self.differs:
            self.grade = "bounded"

    @property
    def sqnr_db(self) -> float | None:
        good = self.error > 0 and self.signal > 0 and math.isfinite(self.error)
        return round(10 * math.log10(self.signal / self.error), 2) if good else None

    def row(self) -> dict[str, Any]:
        relative = self.max_relative if math.isfinite(self.max_relative) else None
        return {"name": self.name, "grade": self.grade, "sqnr_db": self.sqnr_db, "max_relative_error": relative,
                "equal_share": round(self.equal / self.values, 6) if self.values else 1.0,
                "bound": {"relative": self.bound[0], "absolute_of_scale": self.bound[1]}, "first": self.first or None}


class Fault(NamedTuple):
    """A tensor beside the weights that is not as it must be. `side` is A or B, `what` its kind."""

    name: str
    side: str
    what: str
    first: str


@dataclass
class Beside:
    """Tensors that hold no weight: numbers of ranks, zeros between heads, and what no weight of the model explains (compared byte by byte)."""

    constants: int = 0
    padded: int = 0
    bytes: int = 0
    wrong: list[Fault] = field(default_factory=list)

    def add(self, other: Beside) -> None:
        self.constants, self.padded, self.bytes = self.constants + other.constants, self.padded + other.padded, self.bytes + other.bytes
        self.wrong += other.wrong

    def document(self) -> dict[str, Any]:
        return {"constants": self.constants, "padded": self.padded, "bytes": self.bytes, "wrong": [f._asdict() for f in self.wrong[:SHOWN]]}


@dataclass
class Reproduced:
    """Whether the side `made` (A or B, empty: none) is what `convert` writes from the other. `why_not`: why that was not tried."""

    made: str = ""
    tensors: int = 0
    different: int = 0
    why_not: str = ""


@dataclass
class Report:
    """All grades, and what one side lacks."""

    a: str
    b: str
    layouts: tuple[str, str]
    how: str = "values"  # or "bytes", where no value could be read and all bytes are equal
    grades: list[Grade] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    beside: Beside = field(default_factory=Beside)
    reproduced: Reproduced = field(default_factory=Reproduced)
    not_compared: dict[str, list[str]] = field(default_factory=dict)  # reason -> names
    sampled: int = 0

    @property
    def ok(self) -> bool:
        return not self.missing and not self.surplus and not self.beside.wrong and all(g.grade != "wrong" for g in self.grades)

    def worst(self) -> Grade | None:
        return min(self.grades, key=lambda g: (ORDER[g.grade], g.sqnr_db if g.sqnr_db is not None else -math.inf), default=None)

    def document(self) -> dict[str, Any]:
        """The JSON of the contract (`weighbridge.verify/1`)."""
        counts = {name: sum(g.grade == name for g in self.grades) for name in ("identical", "exact", "bounded", "wrong")}
        signal, error = sum(g.signal for g in self.grades), sum(g.error for g in self.grades)
        total = round(10 * math.log10(signal / error), 2) if 0 < error < math.inf and signal > 0 else None
        worst = self.worst()
        return {
            "a": self.a, "b": self.b, "layouts": list(self.layouts), "how": self.how, "weights": len(self.grades), "grades": counts,
            "missing": self.missing, "surplus": self.surplus, "worst": worst.row() if worst else None, "total_sqnr_db": total,
            "inexact": [g.row() for g in self.grades if g.grade in ("bounded", "wrong")][:SHOWN], "beside": self.beside.document(),
            "reproduced": asdict(self.reproduced),
            "not_compared": [{"reason": reason, "count": len(names), "names": names[:SHOWN]} for reason, names in self.not_compared.items()],
            "sampled": self.sampled, "ok": self.ok,
        }

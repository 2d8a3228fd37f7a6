"""The findings that a phase hands on, and those of earlier phases as a phase gets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from common.errors import LabError


class PhaseFindings(BaseModel):
    """The findings of a phase, for later ones; each phase defines its own. Stored as JSON; unknown keys are ignored.

    Class arguments: `phase`, whose findings they are, and `what`, the finding that later phases need, in words.
    """

    model_config = ConfigDict(frozen=True)
    PHASE: ClassVar[str]
    WHAT: ClassVar[str]

    def __init_subclass__(cls, phase: str, what: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.PHASE, cls.WHAT = phase, what

    def doubted(self) -> Self:
        """Return what is handed on where the numbers behind the findings cannot be relied on."""
        return self


F = TypeVar("F", bound=PhaseFindings)


@dataclass(frozen=True)
class Earlier:
    """The findings of a run's earlier phases."""

    findings: tuple[PhaseFindings, ...] = ()

    def find(self, kind: type[F]) -> F | None:
        """Return the findings of this type, or None where that phase has none."""
        return next((f for f in self.findings if isinstance(f, kind)), None)

    def of(self, kind: type[F]) -> F:
        """Return the findings of this type.

        Raises:
            LabError: that phase has none, with the command that runs it.
        """
        found = self.find(kind)
        if found is None:
            raise LabError(f"{kind.PHASE}'s {kind.WHAT} must be found first", f"lab run {kind.PHASE}")
        return found

"""Coverage: how much of all executions an exploration has executed."""

import attrs

from emu.engine import Space
from emu.engine.sections import Sections


@attrs.define
class Coverage:
    """How much of all executions an exploration has executed.

    Attributes:
        steps: the steps of the executions that have ended.
        blocked: the number of executions that were given up.
        traces: the number of distinct traces, where that is not the number of executions.
        share: the estimated share that is done; 0 without an estimate.
        is_exhausted: every trace was executed.
        short: the locks whose sections were each taken in one step.
    """

    steps: int = 0
    blocked: int = 0
    traces: int | None = None
    share: float = 0.0
    is_exhausted: bool = False
    short: frozenset[Space] = frozenset()

    def forget(self) -> None:
        """Count from zero again."""
        self.steps = self.blocked = 0

    def exhaust(self) -> None:
        """Note that every trace was executed."""
        self.is_exhausted = True
        self.share = 1.0

    def keep_short(self, sections: Sections) -> None:
        """Keep the locks whose sections so far were each taken in one step."""
        self.short = frozenset(sections.short - sections.long)

    @property
    def short_locks(self) -> list[str]:
        """The names of these locks."""
        return sorted("/".join(lock[1:]) for lock in self.short)

"""What an exploration has executed, and of how much."""

import attrs

from emu.engine.sections import Sections


@attrs.define
class Coverage:
    """What an exploration has executed, and of how much.

    Attributes:
        steps: of the executions that have ended.
        blocked: how many executions were given up.
        traces: how many distinct traces were executed, where that is not the number of executions.
        share: an estimate of which share of the whole is done; 0 if there is none.
        is_exhausted: there is no other trace.
        short_locks: the locks of which sections were taken in one step.
    """

    steps: int = 0
    blocked: int = 0
    traces: int | None = None
    share: float = 0.0
    is_exhausted: bool = False
    short_locks: list[str] = attrs.field(factory=list)

    def forget(self) -> None:
        """Count from the beginning."""
        self.steps = self.blocked = 0

    def exhaust(self) -> None:
        """Note that there is no other trace."""
        self.is_exhausted = True
        self.share = 1.0

    def name_short(self, sections: Sections) -> None:
        """Name the locks of which every section so far was taken in one step."""
        self.short_locks = sorted("/".join(lock[1:]) for lock in sections.short - sections.long)

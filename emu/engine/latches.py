"""Latches: conditions that become true once in an execution and stay true. Agents wait for nothing else."""

from collections.abc import Callable

from emu.engine.accesses import Access


class Latch:
    """A condition that is set once and never unset: a slot was posted, a status was written, a ticket is served.

    Args:
        name: the condition, as a deadlock report shows it.
        touch: the shared object that setting the latch writes and waiting for it reads.
        holder: returns the agent that could set the latch, and since which step it could; None if that is not known.

    Attributes:
        set_at: the step that set the latch.
    """

    __slots__ = ("holder", "is_set", "name", "set_at", "touch")

    def __init__(self, name: str, touch: Access, holder: Callable[[], tuple[str, int] | None] = lambda: None) -> None:
        self.name = name
        self.touch = touch
        self.holder = holder
        self.is_set = False
        self.set_at = 0

    def set(self, step: int) -> None:
        """Make the condition true at a step; a second time changes nothing."""
        if not self.is_set:
            self.is_set = True
            self.set_at = step

    def __repr__(self) -> str:
        return f"<Latch {self.name}: {'set' if self.is_set else 'not set'}>"

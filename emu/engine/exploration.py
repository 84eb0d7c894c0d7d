"""An exploration: one execution after the other of one program, as a search asks for them."""

from collections.abc import Callable, Iterator

import attrs

from emu.engine.execution import Execution
from emu.engine.search import Search
from emu.engine.sections import Sections
from emu.engine.strategies import Strategy

Program = Callable[[Strategy], Execution]
"""Makes a fresh execution: the same agents in the same order, each time."""


@attrs.define
class Exploration:
    """The executions of a program.

    Attributes:
        make_search: makes a search that has explored nothing yet.
        sections: which sections are taken in one step; None if none is.
        executions: how many have come to their end.
        blocked: how many were given up on the way; an optimal search gives up none.
        steps: how many were taken in these and the blocked executions.
        deadlocks: how many executions ended in a deadlock.
        is_exhausted: nothing is left to execute.
    """

    program: Program
    make_search: Callable[[], Search]
    sections: Sections | None = None
    search: Search = attrs.field(init=False)
    executions: int = 0
    blocked: int = 0
    steps: int = 0
    deadlocks: int = 0
    is_exhausted: bool = False

    def __attrs_post_init__(self) -> None:
        self.search = self.make_search()

    def each(self) -> Iterator[Execution]:
        """Yield executions. The caller runs each to its end before it asks for the next one."""
        while not self.is_exhausted:
            execution = self.program(self.search)
            if self.sections is not None:
                execution.take_short(self.sections)
            self.search.begin(execution)
            yield execution
            if self.sections is not None and self.sections.has_left:
                self.start_again()
                continue
            self.steps += execution.trace.step
            if self.search.is_blocked:
                self.blocked += 1
            else:
                self.executions += 1
                self.deadlocks += execution.deadlock is not None
            self.is_exhausted = not self.search.advance()

    def start_again(self) -> None:
        """Forget all that was explored: with other sections the space is another one."""
        self.search = self.make_search()
        self.executions = self.blocked = self.steps = self.deadlocks = 0

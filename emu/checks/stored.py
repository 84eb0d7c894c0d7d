"""Findings about a store: a CPU has stored an entry, or part of one, that it should not have stored so."""

import attrs

from emu.checks.details import Evidence, Use
from emu.checks.kinds import Facts, FindingKind
from emu.engine import Trace
from emu.units import Dfn, Maddr, Mfn


@attrs.frozen
class FreedTable:
    """A store to a page table that was freed before; or to a frame that its domain took for a page table.

    Attributes:
        frame: the frame of the table.
        freed: the agent that freed the table, and the step; None where the frame never held a page table, and an entry
            led there in a table that was freed and then reused.
    """

    agent: str
    step: int
    domain: int
    dfn: Dfn
    frame: Mfn
    freed: tuple[str, int] | None

    kind = FindingKind.FREED_TABLE

    def facts(self, trace: Trace) -> Facts:
        freed = f"freed by {self.freed[0]}" if self.freed else "no table"
        return (freed, self.domain, self.dfn, self.frame, None, self.agent)


@attrs.frozen(kw_only=True)
class Torn:
    """An entry that a CPU has replaced in two stores, and that led elsewhere between the two.

    Attributes:
        steps: the steps of the two stores.
        address: the address of the word.
        words: the word before the first store, between the two, and after the second.
        frame: the frame to which the word led between the stores.
        use: a use by a device.
    """

    agent: str
    steps: tuple[int, int]
    domain: int
    dfn: Dfn
    unit: str
    address: Maddr
    words: tuple[int, int, int]
    frame: Mfn
    use: Use | None = None

    kind = FindingKind.TORN

    @property
    def step(self) -> int:
        """The step of the second store."""
        return self.steps[1]

    @property
    def evidence(self) -> Evidence:
        """Whether a device has used the entry."""
        return Evidence.POSSIBLE if self.use is None else Evidence.OBSERVED

    def facts(self, trace: Trace) -> Facts:
        return ("torn", self.domain, self.dfn, self.frame, self.unit, self.agent)


@attrs.frozen
class NoBreak:
    """An entry that took the place of another one while a walker could still use the other.

    Attributes:
        unit: the unit that could; None for the CPUs.
        address, level: of the word.
        words: the word that could still be used, and the one that took its place.
    """

    agent: str
    step: int
    domain: int
    dfn: Dfn
    unit: str | None
    address: Maddr
    level: int
    words: tuple[int, int]

    kind = FindingKind.NO_BREAK

    def facts(self, trace: Trace) -> Facts:
        return ("break before make", self.domain, self.dfn, None, self.unit, self.agent)


@attrs.frozen
class Overrun:
    """A store of more entries into an array than it has room for."""

    agent: str
    step: int
    array: str
    count: int

    kind = FindingKind.OVERRUN

    def facts(self, trace: Trace) -> Facts:
        return (self.array, None, None, None, None, self.agent)

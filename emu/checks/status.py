"""Status words: a unit writes none into a frame that is free, or was freed after software had asked for the word."""

from collections.abc import Iterable, Mapping

import attrs

from emu.checks.findings import Finding, LateStatus
from emu.engine import Access, Kind
from emu.hypervisor.pages import OWNERS, Pages
from emu.units import Maddr, Mfn, address_frame


@attrs.define(eq=False)
class StatusWatch:
    """Judges the status words that units write.

    Attributes:
        freed: the CPU that freed each frame last, and the step.
    """

    findings: list[Finding]
    pages: Pages
    freed: Mapping[Mfn, tuple[str, int]]

    def reads(self, address: Maddr) -> Iterable[Access]:
        """Return the read of the frame's owner, if the frame has one or may get one."""
        frame = address_frame(address)
        if self.pages.may_have_owner(frame):
            yield Access.to(OWNERS, frame, Kind.READ)

    def written(self, unit: str, address: Maddr, asked: int, step: int) -> None:
        """Note a word that was written although its frame is free, or was freed after step `asked`."""
        frame = address_frame(address)
        if frame not in self.freed:
            return
        agent, freed = self.freed[frame]
        owner = self.pages.find(frame).owner
        if owner is None or freed > asked:
            number = None if owner is None else owner.number
            self.findings.append(LateStatus(step, unit, address, asked, agent, freed, number))

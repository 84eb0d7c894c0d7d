"""No checks: for a machine that only counts what flushing costs."""

from collections.abc import Iterable

from emu.cpus import Cpu
from emu.engine import Access
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import MapFlags
from emu.hypervisor.page import Page
from emu.hypervisor.places import Half, Place, Stored
from emu.hypervisor.records import CallRecord
from emu.units import Dfn


class NoChecks:
    """Judges nothing, where `Judge`, `OwnerJudge`, `AccessJudge` or `WordJudge` is asked for."""

    def reads(self, record: CallRecord) -> Iterable[Access]:
        """Return nothing."""
        return ()

    def judge(self, record: CallRecord, step: int) -> None:
        """Do nothing."""

    def settle(self, record: CallRecord, step: int) -> None:
        """Do nothing."""

    def reads_of_page(self, page: Page) -> Iterable[Access]:
        """Return nothing."""
        return ()

    def owner_changes(self, page: Page, cpu: Cpu, call: str, step: int) -> None:
        """Do nothing."""

    def entry_stored(self, page: Page, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Do nothing."""

    def page_changed(self, cpu: Cpu, domain: Domain, dfn: Dfn, step: int) -> None:
        """Do nothing."""

    def overrun(self, cpu: Cpu, array: str, count: int) -> None:
        """Do nothing."""

    def leaf_reads(self, page: Page, domain: Domain, flags: MapFlags) -> Iterable[Access]:
        """Return nothing."""
        return ()

    def leaf_stored(self, page: Page, cpu: Cpu, domain: Domain, dfn: Dfn, flags: MapFlags, step: int) -> None:
        """Do nothing."""

    def withdrawal_reads(self, page: Page, domain: Domain) -> Iterable[Access]:
        """Return nothing."""
        return ()

    def withdrawn(self, page: Page, cpu: Cpu, domain: Domain, step: int) -> None:
        """Do nothing."""

    def word_reads(self, domain: Domain, half: Half | None, place: Place) -> Iterable[Access]:
        """Return nothing."""
        return ()

    def word_stored(self, cpu: Cpu, domain: Domain, place: Place, stored: Stored) -> None:
        """Do nothing."""

"""Storing a device's own entry, by which a unit finds the tables that translate for the device, whatever the vendor."""

from collections.abc import Iterable

from emu.cpus import Cpu
from emu.engine import Access, Kind
from emu.hypervisor.domain import Domain
from emu.memory import WORDS, Store, table_words


class StoreDeviceEntry(Store):
    """Store a part of a device's entry, which may lead to a domain's tables from then on.

    A walk may read a word of these tables only after that, so whether it may find a value that is replaced depends on
    the order of the two stores. So this one reads the tables.
    """

    __slots__ = ("domain",)

    saved_as = Store.__name__  # schedules that were saved while it was a plain store still fit
    saved_accesses = 1

    def __init__(
        self, cpu: Cpu, address: int, value: int, bits: int, label: str, *, domain: Domain | None, **details: object
    ) -> None:
        """Prepare the store.

        Args:
            domain: the domain to whose tables the entry may lead after the store; None if it leads to none.
        """
        super().__init__(cpu.memory, address, value, bits, label, details)
        self.domain = domain

    def accesses(self) -> Iterable[Access]:
        yield from super().accesses()
        if self.domain is not None:
            yield Access(WORDS, *table_words(self.domain.index), Kind.READ)

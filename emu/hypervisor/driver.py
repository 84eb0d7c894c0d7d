"""What the hypervisor's common code needs of an IOMMU driver, whatever the vendor."""

from collections.abc import Iterable
from typing import Protocol

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Access
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import MapFlags
from emu.iommus.unit import Unit
from emu.units import Dfn, Maddr, Mfn


class Driver(Protocol):
    """A driver for all units of a machine. What a revision changed of it are the hooks (`IommuOps`).

    Attributes:
        fixes: the repairs that its code has.
        known_fixes: those that its code can have.
    """

    fixes: set[Fix]
    known_fixes: frozenset[Fix]

    def add_unit(self, unit: Unit) -> None:
        """Know a unit of the machine. Before the first step, as everything that is not async."""

    def add_device(self, device: Device) -> None:
        """Prepare what a unit finds of a device that no domain has."""

    def add_domain(self, domain: Domain) -> None:
        """Give a new domain its highest page table."""

    def assign(self, domain: Domain, device: Device) -> None:
        """Have a domain's tables translate for a device."""

    def premap(self, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, users: Iterable[Device]) -> None:
        """Map one page of 4 KiB; some devices of the domain have used it already: their unit's IOTLB holds it."""

    async def attach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Have a domain's tables translate for a device; return 0 or a negative errno."""

    async def detach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Have nothing translate for a domain's device any more; return 0 or a negative errno."""

    async def reassign(self, cpu: Cpu, source: Domain, target: Domain, device: Device) -> int:
        """Give a device of one domain to another; return 0 or a negative errno."""

    async def store_entry(self, cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int) -> None:
        """Store an entry of a page table for a dfn, and have every unit's walks see it."""

    def leaf_section(self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn | None = None) -> tuple[Access, ...] | None:
        """Return what a section of the mapping_lock touches that looks at one leaf or stores it; None if unknown.

        Args:
            mfn: the frame that the section may enter.
        """

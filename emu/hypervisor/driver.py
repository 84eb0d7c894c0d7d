"""The protocol of an IOMMU driver, as the hypervisor's common code uses it, whatever the vendor."""

from collections.abc import Iterable
from typing import Protocol

from emu.cpus import Cpu
from emu.devices.device import Device
from emu.hypervisor.domain import Domain
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import MapFlags
from emu.iommus.unit import Unit
from emu.units import Dfn, Maddr, Mfn


class Driver(Protocol):
    """The driver of all units of a machine, without its hooks (`IommuOps`), which belong to a revision.

    Methods that are not async take no step, and are called before the first step only.

    Attributes:
        fixes: the repairs that the driver has.
        known_fixes: the repairs that it can have.
        debug_build: an ASSERT of Xen that does not hold is a finding.
    """

    fixes: set[Fix]
    known_fixes: frozenset[Fix]
    debug_build: bool

    def add_unit(self, unit: Unit) -> None:
        """Add a unit of the machine."""

    def add_device(self, device: Device) -> None:
        """Prepare the entries that a unit reads for a device that belongs to no domain."""

    def add_domain(self, domain: Domain) -> None:
        """Give a new domain its highest page table."""

    def assign(self, domain: Domain, device: Device) -> None:
        """Let a domain's tables translate for a device."""

    def premap(
        self, domain: Domain, dfn: Dfn, mfn: Mfn, flags: MapFlags, users: Iterable[Device], page_order: int = 0
    ) -> None:
        """Map 2^page_order pages by one leaf. The IOTLB caches it for the users, which are devices of the domain."""

    async def attach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Let a domain's tables translate for a device; return 0 or a negative errno."""

    async def detach(self, cpu: Cpu, domain: Domain, device: Device) -> int:
        """Detach a device from its domain: then no tables translate for it. Return 0 or a negative errno."""

    async def reassign(self, cpu: Cpu, source: Domain, target: Domain, device: Device) -> int:
        """Move a device from one domain to another; return 0 or a negative errno."""

    async def store_entry(self, cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int) -> None:
        """Store an entry of a page table for a dfn, and make it visible to the walks of every unit."""

"""The VT-d driver, as far as no revision changed it (Xen: drivers/passthrough/vtd/{iommu,qinval}.c).

Finding and making tables, reading and storing leaves, and asking a unit to invalidate.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from emu.cpus import Cpu, SpinLock
from emu.devices.device import Device
from emu.engine import Access, Kind, Latch, Wait
from emu.hypervisor.domain import INSTALLED, Domain
from emu.hypervisor.faults import Fault, Faults
from emu.hypervisor.fixes import AS_OF_2018, Fix
from emu.hypervisor.ops import ENOMEM, ETIMEDOUT, INVALID_DFN, OK, DomainIsDyingError
from emu.hypervisor.pages import PAGES
from emu.hypervisor.records import record_result, record_update
from emu.hypervisor.table_list import AllocateTable
from emu.hypervisor.vtd.domain_ids import DomainIds
from emu.iommus.formats import entry_address
from emu.iommus.vtd.formats import (
    READ,
    WRITE,
    ContextInvalidation,
    Descriptor,
    Granularity,
    IotlbInvalidation,
    WaitDescriptor,
    decode_pte,
    encode_descriptor,
)
from emu.iommus.vtd.queue import ReadTail, WriteTail
from emu.iommus.vtd.unit import VtdUnit
from emu.memory import WORDS, DrainWriteBuffer, Store, WriteBack, word_number
from emu.units import WORD_BYTES, Dfn, Maddr, Mfn, address_frame, frame_address

QINVAL_STAT_INIT = 0
QINVAL_STAT_DONE = 1

WORD_BITS = 8 * WORD_BYTES

NOT_ISSUED = 1
"""What a low-level flush returns if the unit caches no non-present entries, so that nothing was asked of it."""


@attrs.define(eq=False)
class VtdIommu:
    """What the driver knows of one unit (Xen: struct vtd_iommu).

    Attributes:
        index: its bit in the domains' iommu_bitmap.
        lock: guards its context tables, and the taking of domain ids.
        register_lock: guards the tail of the invalidation queue.
        domids: the unit's domain id for each domain that uses it.
    """

    index: int
    unit: VtdUnit
    lock: SpinLock = attrs.field(init=False)
    register_lock: SpinLock = attrs.field(init=False)
    domids: DomainIds = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lock = SpinLock(f"{self.unit.name}.lock")
        self.register_lock = SpinLock(f"{self.unit.name}.register_lock")
        self.domids = DomainIds(self.unit.name)


@attrs.define(eq=False)
class VtdDriver:
    """The units of the machine, and what the driver keeps for all of them.

    Attributes:
        poll_slots: where each CPU has its completion status written (Xen: per-CPU poll_slot).
        fixes: the repairs that the driver's code has.
        faults: those that the strategy may choose.
    """

    poll_slots: Maddr
    iommus: list[VtdIommu] = attrs.field(factory=list)
    fixes: set[Fix] = attrs.field(factory=lambda: set(AS_OF_2018))
    faults: Faults = attrs.field(factory=Faults)

    @property
    def is_coherent(self) -> bool:
        """Whether the walks of every unit snoop the CPUs' caches."""
        return all(iommu.unit.settings.coherent for iommu in self.iommus)

    @property
    def snoop_control(self) -> bool:
        """Whether leaves carry SNP: every unit must support it (Xen: iommu_snoop)."""
        return all(iommu.unit.settings.snoop_control for iommu in self.iommus)

    def iommu_of(self, device: Device) -> VtdIommu:
        """Return the unit that a device stands behind, as the driver knows it."""
        return next(iommu for iommu in self.iommus if iommu.unit is device.unit)

    def poll_slot(self, cpu: Cpu) -> Maddr:
        """Return the address of a CPU's status word."""
        return Maddr(self.poll_slots + WORD_BYTES * cpu.number)


class AwaitUnit(Wait):
    """Wait until a unit has written our status word, or has made room in its queue: the event says which."""

    __slots__ = ("iommu", "label")

    def __init__(self, latch: Latch, label: str, iommu: str) -> None:
        super().__init__(latch)
        self.label = label
        self.iommu = iommu

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.label, {"iommu": self.iommu}


async def iommu_flush_cache_entry(cpu: Cpu, driver: VtdDriver, address: Maddr) -> None:
    """Write an entry's cache line back, where the walk of some unit does not snoop the CPUs' caches."""
    if not driver.is_coherent:
        await WriteBack(cpu.memory, address)


async def addr_to_dma_page_maddr(cpu: Cpu, driver: VtdDriver, domain: Domain, dfn: Dfn, *, alloc: bool) -> Maddr | None:
    """Return the address of the leaf of a dfn; None where a table is missing and not made.

    A new table is entered in three stores, as Xen does it: address, then R, then W, on an entry that is in use. A dying
    domain has no tables any more, for those who look.

    Raises:
        DomainIsDyingError: if an entry was to be made, and the driver's code looks for that.
    """
    if Fix.DYING in driver.fixes and await domain.is_dying.read():
        if alloc:
            raise DomainIsDyingError
        record_update(cpu, dfn, 0, 0)
        return None
    table = domain.pgd
    for level in range(domain.levels, 1, -1):
        address = entry_address(table, dfn, level)
        word = await cpu.load64(address, "pte.read", domain=domain.number, dfn=dfn, table_level=level)
        entry = decode_pte(word, level)
        if entry is None:
            if not alloc:
                record_update(cpu, dfn, 0, 0)
                return None
            if await driver.faults.strike(cpu, Fault.ALLOCATION):
                cpu.note("fault.inject", dfn=dfn, result=ENOMEM)
                return None
            table = frame_address(await AllocateTable(domain, dfn))
            for word in (table, table | READ, table | READ | WRITE):
                await StoreEntry(cpu, domain, dfn, level, address, word)
            await iommu_flush_cache_entry(cpu, driver, address)
        else:
            table = entry.address
    return entry_address(table, dfn, 1)


class StoreEntry(Store):
    """Store an entry of a page table for a dfn; a leaf enters its frame at one more page.

    The table's frame should still be the domain's: whether it is gets judged.
    """

    __slots__ = ("cpu", "dfn", "domain", "level")

    def __init__(self, cpu: Cpu, domain: Domain, dfn: Dfn, level: int, address: Maddr, word: int) -> None:
        details = {"domain": domain.number, "dfn": dfn, "table_level": level}
        super().__init__(cpu.memory, address, word, WORD_BITS, "pte.write" if word else "pte.clear", details)
        self.cpu = cpu
        self.domain = domain
        self.dfn = dfn
        self.level = level

    def accesses(self) -> Iterable[Access]:
        yield from super().accesses()
        yield Access.to(PAGES, address_frame(Maddr(self.address)), Kind.READ)
        entry = decode_pte(self.value, self.level)
        if entry is not None and entry.is_leaf:
            yield Access.to(INSTALLED, address_frame(entry.address), Kind.COMMUTE)

    def perform(self, step: int) -> int:
        page = self.domain.pages.find(address_frame(Maddr(self.address)))
        if page.owner is not self.domain or page.table is None:
            self.domain.pages.judge.entry_stored(page, self.cpu, self.domain, self.dfn, step)
        return super().perform(step)


def leaf_section(cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn | None = None) -> tuple[Access, ...] | None:
    """Return what a section of the mapping_lock touches that only looks at one leaf or stores it.

    None where a table is missing on the way: the section may then make one.

    Args:
        mfn: the frame that the section may enter.
    """
    touched = [] if mfn is None else [Access.to(INSTALLED, mfn, Kind.COMMUTE)]
    table = domain.pgd
    for level in range(domain.levels, 1, -1):
        address = entry_address(table, dfn, level)
        touched.append(Access.to(WORDS, word_number(address), Kind.READ))
        entry = decode_pte(cpu.memory.peek(address), level)
        if entry is None:
            return None
        table = entry.address
    touched.append(Access.to(PAGES, address_frame(table), Kind.READ))
    return (*touched, Access.to(WORDS, word_number(entry_address(table, dfn, 1)), Kind.WRITE))


async def read_pte(cpu: Cpu, domain: Domain, dfn: Dfn, address: Maddr) -> int:
    """Return the leaf of a dfn. To be called under the mapping_lock."""
    word = await cpu.load64(address, "pte.read", domain=domain.number, dfn=dfn, table_level=1)
    record_update(cpu, dfn, word, word)
    return word


async def write_pte(cpu: Cpu, domain: Domain, dfn: Dfn, address: Maddr, word: int) -> None:
    """Store the leaf of a dfn in one step. To be called under the mapping_lock."""
    old = await StoreEntry(cpu, domain, dfn, 1, address, word)
    entered = decode_pte(word, 1)
    if entered is not None:
        domain.note_leaf(dfn, address_frame(entered.address))
    record_update(cpu, dfn, old, word)


async def qinval_update(cpu: Cpu, iommu: VtdIommu, descriptor: Descriptor) -> None:
    """Put a descriptor into the next slot of a unit's queue (Xen: queue_invalidate_* in qinval.c)."""
    queue = iommu.unit.queue
    async with iommu.register_lock.held(cpu):
        tail = await ReadTail(queue)
        room = queue.room()
        if room is not None:
            await AwaitUnit(room, "queue.room", iommu.unit.name)
        address = queue.slot_address(tail)
        await cpu.store128(address, encode_descriptor(descriptor), "queue.write", iommu=iommu.unit.name)
        await WriteTail(queue, (tail + 1) % queue.entries)


async def invalidate_sync(cpu: Cpu, driver: VtdDriver, iommu: VtdIommu) -> int:
    """Post a wait descriptor and wait until the unit has written its status (Xen: queue_invalidate_wait).

    A CPU that gives up leaves the descriptors to the unit: the status is written when they have completed, and may
    then end a later wait of the same CPU before its time.
    """
    address = driver.poll_slot(cpu)
    await cpu.store32(address, QINVAL_STAT_INIT)
    latch = cpu.memory.latch(address, QINVAL_STAT_DONE)
    await qinval_update(cpu, iommu, WaitDescriptor(address, QINVAL_STAT_DONE))
    if await driver.faults.strike(cpu, Fault.WAIT):
        cpu.note("fault.inject", iommu=iommu.unit.name, result=ETIMEDOUT)
        return ETIMEDOUT
    await AwaitUnit(latch, "flush.done", iommu.unit.name)
    return OK


async def flush_qi(
    cpu: Cpu, driver: VtdDriver, iommu: VtdIommu, asked: IotlbInvalidation | ContextInvalidation, *, non_present: bool
) -> int:
    """Have a unit invalidate, and wait for it; or do nothing where only non-present entries changed.

    A unit that caches non-present entries is asked under domain id 0 then: that is the tag of non-present *context*
    entries. Until c5c84e9766 Xen did so for the IOTLB, too, which then keeps what it was to drop.
    """
    if non_present:
        if not iommu.unit.settings.caching_mode:
            return NOT_ISSUED
        if isinstance(asked, ContextInvalidation) or Fix.OWN_ID not in driver.fixes:
            asked = attrs.evolve(asked, did=0)
    await qinval_update(cpu, iommu, asked)
    return await invalidate_sync(cpu, driver, iommu)


async def iommu_flush_context_device(
    cpu: Cpu, driver: VtdDriver, iommu: VtdIommu, did: int, source_id: int, *, non_present: bool
) -> int:
    """Flush a device's context entry."""
    asked = ContextInvalidation(Granularity.NARROW, did, source_id)
    return await flush_qi(cpu, driver, iommu, asked, non_present=non_present)


async def iommu_flush_iotlb_dsi(cpu: Cpu, driver: VtdDriver, iommu: VtdIommu, did: int, *, non_present: bool) -> int:
    """Flush all that a unit caches for a domain id."""
    asked = IotlbInvalidation(Granularity.DOMAIN, did)
    return await flush_qi(cpu, driver, iommu, asked, non_present=non_present)


async def iommu_flush_iotlb_psi(
    cpu: Cpu, driver: VtdDriver, iommu: VtdIommu, did: int, dfn: Dfn, order: int, *, non_present: bool
) -> int:
    """Flush 2^order pages of a domain id; the whole domain where the unit cannot be that selective."""
    settings = iommu.unit.settings
    if not settings.page_selective or order > settings.mamv:
        return await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=non_present)
    aligned = Dfn(dfn >> order << order)
    asked = IotlbInvalidation(Granularity.NARROW, did, aligned, order)
    return await flush_qi(cpu, driver, iommu, asked, non_present=non_present)


async def iommu_flush_iotlb(
    cpu: Cpu, driver: VtdDriver, domain: Domain, dfn: Dfn, *, old_present: bool, page_count: int
) -> int:
    """Flush a range of a domain on every unit that it uses. No lock is held.

    One page is flushed by itself; any other count, or INVALID_DFN, flushes the whole domain. Until e7059776f9 the
    result of a later unit replaces that of an earlier one.
    """
    result = OK
    for iommu in driver.iommus:
        if not await domain.iommu_bitmap.read() >> iommu.index & 1:
            continue
        did = await iommu.domids.find(domain.number)
        if did is None:
            cpu.note("flush.skip", iommu=iommu.unit.name, domain=domain.number)
            continue
        if page_count != 1 or dfn == INVALID_DFN:
            error = await iommu_flush_iotlb_dsi(cpu, driver, iommu, did, non_present=False)
        else:
            non_present = not old_present if Fix.XSA_78 in driver.fixes else old_present
            error = await iommu_flush_iotlb_psi(cpu, driver, iommu, did, dfn, 0, non_present=non_present)
        if error == NOT_ISSUED:
            await iommu_flush_write_buffer(cpu, iommu)
            error = OK
        else:
            flushed = (Dfn(0), 0) if dfn == INVALID_DFN or page_count != 1 else (dfn, 1)
            record_result(cpu, f"iotlb_flush on {iommu.unit.name}", *flushed, error)
        result = (result or error) if Fix.FIRST_ERROR in driver.fixes else error
    return result


async def iommu_flush_write_buffer(cpu: Cpu, iommu: VtdIommu) -> None:
    """Have the chipset drain its write buffer, if it has one; an invalidation would have done it."""
    if iommu.unit.settings.write_buffer:
        await DrainWriteBuffer(cpu.memory)

"""Xen's callers of the wrappers on x86, each with the lock that it holds around the call (as of e8afe1124c).

A call that is not deferred flushes before it returns, so a lock around it is held across the flush. Only the batch of
xenmem_add_to_physmap (physmap.py) and arch_iommu_populate_page_table drop their lock between an entry and its flush.
The tables of a PV domain map each frame at its own number.
"""

from contextlib import AbstractAsyncContextManager, nullcontext
from enum import Enum

import attrs

from emu.cpus import Cpu, SpinLock
from emu.engine import Counter
from emu.hypervisor.domain import Domain
from emu.hypervisor.ops import OK, READ_WRITE, MapFlags
from emu.hypervisor.page_list import PageType
from emu.hypervisor.pages import Pages
from emu.hypervisor.physmap import WriteP2m
from emu.units import Dfn, Mfn


class Locks(Enum):
    """Whether callers hold their locks."""

    AS_CALLED = "as-called"  # those that Xen holds there
    NONE = "none"


@attrs.define(eq=False)
class Callers:
    """The callers.

    Attributes:
        locks: whether they hold their locks.
        pcidevs_lock: guards the assignment of devices, and the pages of their firmware.
        entry_lock: guards the pins; Xen has one for each entry of a grant table.
        pins: how often each frame is mapped by a grant, by the number of the domain that maps it, and the frame.
    """

    pages: Pages
    locks: Locks = Locks.AS_CALLED
    pcidevs_lock: SpinLock = attrs.field(factory=lambda: SpinLock("pcidevs_lock"))
    entry_lock: SpinLock = attrs.field(factory=lambda: SpinLock("active_entry_lock"))
    pins: dict[tuple[int, Mfn], Counter] = attrs.field(factory=dict)

    def pin(self, mapper: Domain, mfn: Mfn) -> Counter:
        """Return how often a domain maps a frame by a grant (Xen: common/grant_table.c, struct active_grant_entry)."""
        key = (mapper.number, mfn)
        if key not in self.pins:
            self.pins[key] = Counter(f"pin of {mfn:#x} by d{mapper.number}", 0)
        return self.pins[key]

    def enter_grant(self, mapper: Domain, mfn: Mfn, flags: MapFlags = READ_WRITE) -> None:
        """Let a domain have mapped another's frame by a grant, before the first step."""
        self.pin(mapper, mfn).value += 1
        self.pages.page(mfn).let_map(mapper, flags)

    def held(self, cpu: Cpu, lock: SpinLock) -> AbstractAsyncContextManager[None]:
        """Return a context that holds a lock, if locks are held."""
        return lock.held(cpu) if self.locks is Locks.AS_CALLED else nullcontext()

    async def p2m_set_entry(
        self, cpu: Cpu, domain: Domain, dfn: Dfn, mfn: Mfn | None, flags: MapFlags = READ_WRITE
    ) -> int:
        """Map a page of an HVM domain to a frame, or to none, under the p2m write lock.

        (Xen: arch/x86/mm/p2m-ept.c, ept_set_entry; arch/x86/mm/p2m-pt.c, p2m_pt_set_entry)
        """
        async with self.held(cpu, domain.p2m_lock):
            await WriteP2m(domain, dfn, mfn)
            if mfn is None:
                return await domain.calls.unmap(cpu, domain, dfn)
            return await domain.calls.map(cpu, domain, dfn, mfn, flags=flags)

    async def guest_physmap_add_entry(self, cpu: Cpu, domain: Domain, mfn: Mfn) -> int:
        """Let a PV domain's devices reach a frame of it, without a lock (Xen: arch/x86/mm/p2m.c)."""
        return await domain.calls.map(cpu, domain, Dfn(mfn), mfn)

    async def guest_physmap_remove_page(self, cpu: Cpu, domain: Domain, mfn: Mfn) -> int:
        """Take a frame of a PV domain away from its devices, under the p2m lock (Xen: arch/x86/mm/p2m.c)."""
        async with self.held(cpu, domain.p2m_lock):
            return await domain.calls.unmap(cpu, domain, Dfn(mfn))

    async def set_identity_p2m_entry(self, cpu: Cpu, domain: Domain, mfn: Mfn) -> int:
        """Let a PV domain's devices reach a page of their firmware, under pcidevs_lock (Xen: arch/x86/mm/p2m.c)."""
        async with self.held(cpu, self.pcidevs_lock):
            return await domain.calls.map(cpu, domain, Dfn(mfn), mfn)

    async def clear_identity_p2m_entry(self, cpu: Cpu, domain: Domain, mfn: Mfn) -> int:
        """Take such a page away, under pcidevs_lock (Xen: arch/x86/mm/p2m.c)."""
        async with self.held(cpu, self.pcidevs_lock):
            return await domain.calls.unmap(cpu, domain, Dfn(mfn))

    async def get_page_type(self, cpu: Cpu, domain: Domain, mfn: Mfn, type_: PageType) -> bool:
        """Give a page of a PV domain a type that nobody uses it as; return whether that was done.

        Devices may reach a page while it is writable. No lock is held: the type is changed first (Xen: arch/x86/mm.c,
        _get_page_type). Not modelled: the type count, by which Xen keeps a type until its last use.
        """
        variable = domain.page_list.types[mfn]
        before = await variable.read()
        if not await variable.compare_and_swap(before, type_):
            return False
        if before is PageType.WRITABLE and type_ is not PageType.WRITABLE:
            return await domain.calls.unmap(cpu, domain, Dfn(mfn)) == OK
        if before is not PageType.WRITABLE and type_ is PageType.WRITABLE:
            return await domain.calls.map(cpu, domain, Dfn(mfn), mfn) == OK
        return True

    async def map_grant_ref(self, cpu: Cpu, owner: Domain, mapper: Domain, mfn: Mfn, flags: MapFlags) -> int:
        """Let a PV domain's devices reach a frame that its owner grants, under both grant table locks.

        Not modelled: that a frame is mapped more than once, with different permissions.

        (Xen: common/grant_table.c, map_grant_ref)
        """
        first, second = sorted((owner, mapper), key=lambda domain: domain.number)
        async with self.held(cpu, first.grant_lock), self.held(cpu, second.grant_lock):
            async with self.entry_lock.held(cpu):
                await self.pin(mapper, mfn).add(1)
                await self.pages.let_map(cpu, mfn, mapper, flags)
            result = await mapper.calls.map(cpu, mapper, Dfn(mfn), mfn, flags=flags)
        if result != OK:
            await self.unpin(cpu, mapper, mfn)
        return result

    async def unmap_grant_ref(self, cpu: Cpu, owner: Domain, mapper: Domain, mfn: Mfn) -> int:
        """Take such a frame away, under both locks; after that the grant ends, unless it is mapped again.

        (Xen: common/grant_table.c, unmap_common and unmap_common_complete)
        """
        first, second = sorted((owner, mapper), key=lambda domain: domain.number)
        async with self.held(cpu, first.grant_lock), self.held(cpu, second.grant_lock):
            is_last = await self.pin(mapper, mfn).read() == 1
            result = await mapper.calls.unmap(cpu, mapper, Dfn(mfn)) if is_last else OK
        await self.unpin(cpu, mapper, mfn)
        return result

    async def unpin(self, cpu: Cpu, mapper: Domain, mfn: Mfn) -> None:
        """End a mapping of a frame by a grant, and with the last one the grant.

        (Xen: common/grant_table.c, in unmap_common_complete)
        """
        async with self.entry_lock.held(cpu):
            if await self.pin(mapper, mfn).fetch_and_add(-1) == 1:
                await self.pages.withdraw(cpu, mfn, mapper)

    async def memory_add(self, cpu: Cpu, domain: Domain, first: Mfn, count: int) -> int:
        """Let the hardware domain's devices reach new memory, page by page and without a lock.

        After an error the pages before it are unmapped (Xen: arch/x86/x86_64/mm.c, memory_add).
        """
        for number in range(count):
            result = await domain.calls.map(cpu, domain, Dfn(first + number), Mfn(first + number))
            if result != OK:
                for done in reversed(range(number)):
                    await domain.calls.unmap(cpu, domain, Dfn(first + done))
                return result
        return OK

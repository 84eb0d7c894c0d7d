"""Where the walks of an SMMU do not snoop, each store of an entry is followed by a write-back of its line."""

import pytest

from emu.cpus import Cpu
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import OK
from emu.hypervisor.smmu.set_way import p2m_invalidate_root
from emu.iommus.smmu.settings import SmmuSettings
from emu.machine.machine import Machine
from emu.units import Dfn, Mfn, offset
from tests.hypervisor.smmu.p2m import REVISIONS, names, p2m_machine, run

G = Dfn(0x10)
OF_16 = SmmuSettings(ipa_bits=32, superpage_bits=4, coherent=False)
"""A table of leaves has two lines."""

STORES = ("pte.write", "pte.clear", "pte.track", "line.write_back", "cpu_tlb.flush")


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_store_is_written_back_before_the_cpus_are_flushed(revision: str) -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU, revision=revision, settings=OF_16)
    machine.premap(domain, G, machine.allocate(domain=domain), cached=True)
    new = machine.allocate(domain=domain)

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, new) == OK
        assert await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, new) == OK

    events, findings = run(machine, body)
    cleared = ["pte.clear", "line.write_back"]
    assert names(events, *STORES) == [*cleared, "cpu_tlb.flush", "pte.write", *cleared[1:], *cleared, "cpu_tlb.flush"]
    assert findings == []


def test_a_table_that_a_block_is_split_into_is_written_back_line_by_line_when_it_is_complete() -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU, settings=OF_16)
    frames = machine.allocate(page_order=4, domain=domain)
    machine.premap(domain, G, frames, page_order=4, superpage=True, cached=True)

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.hypervisor.guest_physmap_remove_page(cpu, domain, offset(G, 1), Mfn(0)) == OK

    events, findings = run(machine, body)
    assert names(events, *STORES) == [
        *["pte.write"] * 16,
        *["line.write_back"] * 2,
        *["pte.clear", "line.write_back", "cpu_tlb.flush", "pte.write", "line.write_back"],
        *["pte.clear", "line.write_back", "cpu_tlb.flush"],
    ]
    assert findings == []


def test_so_is_each_valid_bit_that_is_cleared() -> None:
    machine, domain = p2m_machine(settings=OF_16)
    machine.premap(domain, G, machine.allocate(domain=domain))

    async def body(m: Machine, cpu: Cpu) -> None:
        await p2m_invalidate_root(cpu, domain)

    events, _ = run(machine, body)
    assert names(events, *STORES) == ["pte.track", "line.write_back", "cpu_tlb.flush"]


def test_nothing_is_written_back_where_walks_snoop() -> None:
    machine, domain = p2m_machine(Fix.HAS_IOMMU)
    frame = machine.allocate(domain=domain)

    async def body(m: Machine, cpu: Cpu) -> None:
        assert await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, frame) == OK

    events, _ = run(machine, body)
    assert names(events, *STORES) == ["pte.write"] * 3

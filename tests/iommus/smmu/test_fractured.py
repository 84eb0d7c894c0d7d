"""An SMMU caches a block as a whole or page by page, as it likes, and an invalidation of the VMID drops both.

A block has two pages.
"""

import attrs
import pytest

from emu.checks.details import Evidence
from emu.checks.findings import FindingKind, Stale
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Choose, Event
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.fixes import Fix
from emu.hypervisor.ops import OK
from emu.iommus.smmu.settings import SmmuSettings
from emu.machine.machine import Machine
from emu.units import Dfn, offset
from tests.smmu import smmu_machine

NIC = "00:1f.0"
G = Dfn(0x400)
H = offset(G, 1)


@attrs.define
class Caching(RoundRobinStrategy):
    """Have the unit cache blocks as a whole, or in pieces."""

    in_pieces: bool = False

    def choose(self, choice: Choose) -> int:
        assert choice.about == "cache one page of a superpage"
        return int(self.in_pieces)


def used_before_and_after(*, in_pieces: bool, flushes: bool, page_order: int) -> tuple[Machine, list[Event]]:
    """Have a device read the second page of a block before a CPU removes pages from the first one on, and after."""
    m = smmu_machine(SmmuSettings(superpage_bits=1))
    if flushes:
        m.driver.fixes.add(Fix.HAS_IOMMU)
    domain = m.domain(1, devices=(NIC,))
    frame = m.allocate(page_order=1, domain=domain)
    m.premap(domain, G, frame, page_order=1, superpage=True)
    used, removed = m.signal("used"), m.signal("removed")

    @m.device(NIC)
    async def device(device: Device) -> None:
        await device.read(H)
        await used.send()
        await removed.wait()
        await device.read(H)

    @m.cpu(0)
    async def remover(cpu: Cpu) -> None:
        await used.wait()
        removal = m.hypervisor.guest_physmap_remove_page
        assert await removal(cpu, domain, G, frame, page_order=page_order) == OK
        await removed.send()

    execution = m.execution(Caching(in_pieces=in_pieces))
    direct.run(execution)
    m.conclude(execution)
    return m, list(m.trace.events())


def told(events: list[Event]) -> list[str]:
    """Return what became of the accesses of the device."""
    return [one.name for one in events if one.name in {"dma.read", "dma.fault"}]


@pytest.mark.parametrize("in_pieces", [True, False])
def test_a_block_is_cached_whole_or_in_pieces(in_pieces: bool) -> None:
    _, events = used_before_and_after(in_pieces=in_pieces, flushes=True, page_order=1)
    (fill,) = (one for one in events if one.name == "iotlb.fill")
    assert (fill.fields["dfn"], fill.fields["page_order"]) == (H, 0 if in_pieces else 1)


@pytest.mark.parametrize("in_pieces", [True, False])
def test_an_invalidation_drops_the_pieces_and_the_whole(in_pieces: bool) -> None:
    m, events = used_before_and_after(in_pieces=in_pieces, flushes=True, page_order=1)
    assert [one.fields["removed"] for one in events if one.name == "iotlb.invalidate"] == [1]
    assert told(events) == ["dma.read", "dma.fault"]
    assert m.findings == []


@pytest.mark.parametrize("in_pieces", [True, False])
def test_without_one_the_device_still_uses_what_it_has_cached_of_a_block_that_was_removed(in_pieces: bool) -> None:
    m, events = used_before_and_after(in_pieces=in_pieces, flushes=False, page_order=1)
    assert told(events) == ["dma.read", "dma.read"]
    found = [one for one in m.findings if isinstance(one, Stale) and one.dfn == H]
    assert [(one.kind, one.evidence) for one in found] == [(FindingKind.STALE, Evidence.OBSERVED)]


@pytest.mark.parametrize("in_pieces", [True, False])
@pytest.mark.parametrize("flushes", [True, False])
def test_the_other_page_of_a_block_that_was_split_stays_mapped_to_its_frame(in_pieces: bool, flushes: bool) -> None:
    m, events = used_before_and_after(in_pieces=in_pieces, flushes=flushes, page_order=0)
    assert told(events) == ["dma.read", "dma.read"]
    assert {one.fields["mfn"] for one in events if one.name == "dma.read"} == {m.domains[1].p2m[H]}
    assert [one for one in m.findings if isinstance(one, Stale) and one.dfn == H] == []
    walked = [one.fields["table_level"] for one in events if one.name == "walk.read"]
    assert walked == ([3, 2, 3, 2, 1] if flushes else [3, 2])

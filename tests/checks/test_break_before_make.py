"""An entry does not take the place of another one that a walker may still use.

For the CPUs, their TLBs are flushed after the other entry was cleared and before the new one is stored. For the units
the same is asked of invalidations, where a machine is set so.
"""

from collections.abc import Callable, Iterable, Mapping

import pytest

from emu.analysis.windows import statistics
from emu.checks.findings import Finding, FindingKind, NoBreak
from emu.checks.signatures import Signature
from emu.cpus import Cpu
from emu.cpus.tlb import FlushCpuTlb
from emu.hypervisor.domain import Domain
from emu.hypervisor.entries import StoreEntry
from emu.hypervisor.fixes import Fix
from emu.hypervisor.p2m_types import P2mType
from emu.hypervisor.revisions.loader import BUNDLED
from emu.hypervisor.smmu import p2m_word
from emu.hypervisor.smmu.entries import table_word
from emu.iommus.amd.settings import AmdSettings
from emu.iommus.settings import UnitSettings
from emu.iommus.smmu.settings import SmmuSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import AMD, SMMU, VTD, Platform
from emu.reports.facts import facts
from emu.reports.findings import sentence
from emu.reports.headlines import headline
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import Build, Scenario, scenario
from emu.units import Dfn, Maddr, Mfn, frame_address, offset
from tests.checks.exhausted import explored
from tests.events import steps

Execute = Callable[..., list[Finding]]

NIC, DISK = "00:1f.0", "00:02.0"
G = Dfn(0x100)
H = offset(G, 1)
SEEDS = 20

SETTINGS: Mapping[str, UnitSettings] = {
    "smmu": SmmuSettings(superpage_bits=1),
    "vtd": VTD.settings(),
    "amd": AmdSettings(levels=2),
}


def machine_of(platform: Platform = SMMU, *, units: bool = False, revision: str = "v1") -> Machine:
    """Return a machine on which the reads of checks are tested, with all repairs of the p2m.

    Args:
        units: entries that units may use count.
    """
    settings = SETTINGS[platform.name]
    machine = Machine(Description(revision, platform, settings, break_for_units=units, is_checking=True))
    if platform is SMMU:
        machine.driver.fixes.update({Fix.HAS_IOMMU, Fix.FLUSH_BEFORE_FREE})
    return machine


def broken(found: Iterable[Finding]) -> list[NoBreak]:
    return [finding for finding in found if isinstance(finding, NoBreak)]


def entry_of(domain: Domain, machine: Machine, level: int, dfn: Dfn = G) -> Maddr:
    """Return the address of an entry of a page, before the first step."""
    format_, table = domain.format, domain.pgd
    for above in range(domain.levels, level, -1):
        entry = format_.decode(machine.memory.peek(format_.entry_address(table, dfn, above)), above)
        assert entry is not None
        table = entry.address
    return format_.entry_address(table, dfn, level)


# What CPUs may still use


def own_code(machine: Machine, program: str) -> Domain:
    """Have CPU 0 change the entry of a page by its own code, step by step; no device uses it.

    `old`, `new` and `read-only` are stores of the entry that was there, of another one, and of one that permits less.
    """
    domain, other = machine.domain(1), machine.domain(2)
    old, new = machine.allocate(), machine.allocate()
    machine.premap(domain, G, old)
    address = entry_of(domain, machine, 1)
    words = {
        "clear": 0,
        "old": p2m_word(domain, old, P2mType.RAM_RW),
        "new": p2m_word(domain, new, P2mType.RAM_RW),
        "read-only": p2m_word(domain, old, P2mType.RAM_RO),
    }
    flushed = {"flush": domain, "flush-other": other}

    def step(cpu: Cpu, name: str) -> StoreEntry | FlushCpuTlb:
        if name in words:
            return StoreEntry(cpu, domain, G, 1, address, words[name])
        tlb = flushed[name].cpu_tlb
        assert tlb is not None
        return FlushCpuTlb(tlb)

    @machine.cpu(0)
    async def changer(cpu: Cpu) -> None:
        for name in program.split():
            await step(cpu, name)

    return domain


@pytest.mark.parametrize(
    "program",
    [
        "new",
        "clear new",
        "clear new flush",
        "flush new",
        "flush clear new",
        "clear flush-other new",
        "read-only new",
        "clear old new",
        "clear flush old clear new",
        "clear clear new",
    ],
)
def test_an_entry_that_cpus_may_still_use_must_not_get_another_in_its_place(execute: Execute, program: str) -> None:
    machine = machine_of()
    own_code(machine, program)
    assert [(one.unit, one.dfn) for one in broken(execute(machine))] == [(None, G)]


@pytest.mark.parametrize(
    "program",
    ["clear", "clear flush new", "clear flush new clear flush old", "old", "clear old", "read-only", "clear read-only"],
)
def test_a_break_an_equal_entry_and_other_permissions_are_silent(execute: Execute, program: str) -> None:
    machine = machine_of()
    own_code(machine, program)
    assert broken(execute(machine)) == []


def test_each_entry_that_is_stored_too_early_is_a_finding(execute: Execute) -> None:
    machine = machine_of()
    own_code(machine, "new old")
    first, second = broken(execute(machine))
    assert first.words == second.words[::-1]


def test_the_finding_names_the_cpu_the_step_the_place_and_both_entries(execute: Execute) -> None:
    machine = machine_of()
    domain = own_code(machine, "flush clear new")
    (finding,) = broken(execute(machine))
    (stored,) = steps(machine.trace.events(), "pte.write")
    assert (finding.agent, finding.step, finding.domain, finding.level) == ("cpu0", stored, 1, 1)
    assert finding.address == entry_of(domain, machine, 1)
    # page, read and write, inner shareable, accessed, type ram_rw; the frames are the first two
    assert finding.words == (0x80_0001_8001_27FF, 0x80_0001_8001_37FF)


@pytest.mark.parametrize(
    ("level", "before", "after"),
    [(2, "block", "table"), (2, "table", "block"), (2, "table", "table"), (3, "table", "table"), (3, "block", "table")],
)
@pytest.mark.parametrize("has_break", [False, True])
def test_a_block_and_a_table_of_any_level_need_a_break(
    execute: Execute, level: int, before: str, after: str, has_break: bool
) -> None:
    machine = machine_of()
    domain = machine.domain(1)
    order = domain.format.leaf_orders[level - 1]
    old, new = machine.allocate(page_order=order), machine.allocate(page_order=order)
    machine.premap(domain, G, old, page_order=order, superpage=before == "block")
    table, tlb, address = machine.pages.add_table(domain, G), domain.cpu_tlb, entry_of(domain, machine, level)
    word = p2m_word(domain, new, P2mType.RAM_RW, level) if after == "block" else table_word(frame_address(table))
    assert tlb is not None

    @machine.cpu(0)
    async def changer(cpu: Cpu) -> None:
        if has_break:
            await StoreEntry(cpu, domain, G, level, address, 0)
            await FlushCpuTlb(tlb)
        await StoreEntry(cpu, domain, G, level, address, word)

    assert [one.level for one in broken(execute(machine))] == [level] * (not has_break)


# What Xen does


def replaced(machine: Machine, before: int, after: int) -> None:
    """Have Xen add pages where others are: of an order, the second or the third that a leaf has or the first."""
    domain = machine.domain(1, devices=(NIC,))
    orders = domain.format.leaf_orders
    old, new = (machine.allocate(page_order=orders[index]) for index in (before, after))
    machine.premap(domain, G, old, page_order=orders[before], superpage=True)

    @machine.cpu(0)
    async def adder(cpu: Cpu) -> None:
        await machine.hypervisor.guest_physmap_add_entry(cpu, domain, G, new, page_order=orders[after])


REPLACED = pytest.mark.parametrize(
    ("before", "after"),
    [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)],
    ids=["page", "block split", "table replaced", "block split twice", "block", "tables replaced"],
)


@REPLACED
@pytest.mark.parametrize("revision", BUNDLED)
def test_xen_breaks_for_the_cpus_whatever_it_replaces(execute: Execute, before: int, after: int, revision: str) -> None:
    machine = machine_of(revision=revision)
    replaced(machine, before, after)
    assert broken(execute(machine)) == []
    events = list(machine.trace.events())
    flushed = steps(events, "cpu_tlb.flush")
    assert steps(events, "pte.clear")[0] < flushed[0] < steps(events, "pte.write")[-1]


@REPLACED
def test_xen_does_not_break_for_the_smmu(execute: Execute, before: int, after: int) -> None:
    machine = machine_of(units=True)
    replaced(machine, before, after)
    found = broken(execute(machine))
    assert found
    assert {one.unit for one in found} == {"smmu0"}


def test_the_window_in_which_the_smmu_may_use_either_entry_is_the_time_from_the_clear_to_the_flush(
    execute: Execute,
) -> None:
    machine = machine_of()
    replaced(machine, 0, 0)
    assert execute(machine) == []
    events = list(machine.trace.events())
    (window,) = statistics(machine).windows
    (cleared,), (stored,) = steps(events, "pte.clear"), steps(events, "pte.write")
    assert window.opened == cleared
    assert stored < window.closed == steps(events, "invalidate.complete")[-1]


# What units may still use


def maps_anew(
    machine: Machine, *, devices: tuple[str, ...] = (NIC,), old: Mfn | None = None, new: Mfn | None = None
) -> Domain:
    """Have CPU 0 map a page that is mapped already, to another frame, by the revision's wrapper."""
    domain = machine.domain(1, devices=devices)
    machine.premap(domain, G, machine.allocate(at=old))
    frame = machine.allocate(at=new)

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, domain, G, frame)

    return domain


@pytest.mark.parametrize("platform", [VTD, AMD], ids=["vtd", "amd"])
@pytest.mark.parametrize("units", [True, False])
def test_a_leaf_that_is_replaced_in_place_is_found_only_where_units_count(
    execute: Execute, platform: Platform, units: bool
) -> None:
    machine = machine_of(platform, units=units)
    maps_anew(machine)
    found = execute(machine)
    assert found == broken(found)
    assert [(one.agent, one.unit, one.dfn, one.level) for one in broken(found)] == [
        ("cpu0", f"{platform.name}0", G, 1)
    ] * units


@pytest.mark.parametrize("platform", [VTD, AMD], ids=["vtd", "amd"])
def test_an_unmap_that_flushes_is_a_break(execute: Execute, platform: Platform) -> None:
    machine = machine_of(platform, units=True)
    domain, new = machine.domain(1, devices=(NIC,)), machine.allocate()
    machine.premap(domain, G, machine.allocate())

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, domain, G)
        await machine.hypervisor.map(cpu, domain, G, new)

    assert execute(machine) == []


def test_an_entry_that_is_stored_in_halves_is_one_finding_with_the_whole_entry(execute: Execute) -> None:
    machine = machine_of(AMD, units=True)
    domain = maps_anew(machine, old=Mfn(0x1000), new=Mfn(0x20_0003))
    (finding,) = broken(execute(machine))
    old, new = (domain.format.decode(word, 1) for word in finding.words)
    assert old is not None
    assert new is not None
    assert (old.address, new.address) == (frame_address(Mfn(0x1000)), frame_address(Mfn(0x20_0003)))
    assert finding.step == steps(machine.trace.events(), "pte.write")[-1]


def test_each_unit_that_may_use_it_is_a_finding(execute: Execute) -> None:
    machine = machine_of(VTD, units=True)
    machine.scope(1, DISK)
    maps_anew(machine, devices=(NIC, DISK))
    assert [one.unit for one in broken(execute(machine))] == ["vtd0", "vtd1"]


def test_no_unit_may_use_what_no_device_is_translated_by(execute: Execute) -> None:
    machine = machine_of(VTD, units=True)
    maps_anew(machine, devices=())
    assert execute(machine) == []


def test_it_is_one_finding_where_devices_were_given_to_the_domain_at_different_times(execute: Execute) -> None:
    machine = machine_of(units=True)
    domain, new = machine.domain(1, devices=(NIC,)), machine.allocate()
    machine.premap(domain, G, machine.allocate())
    late = machine.plug(DISK)

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        await machine.assignment.attach(cpu, domain, late)
        await machine.hypervisor.guest_physmap_add_entry(cpu, domain, G, new)

    assert [one.unit for one in broken(execute(machine))] == ["smmu0"]


@pytest.mark.parametrize("is_mapped", [True, False])
def test_a_table_counts_by_any_page_that_was_mapped_in_it(execute: Execute, is_mapped: bool) -> None:
    machine = machine_of(units=True)
    domain, far = machine.domain(1, devices=(NIC,)), offset(G, 8)
    machine.premap(domain, far, machine.allocate())
    table = machine.pages.add_table(domain, G)
    if is_mapped:
        machine.premap(domain, H, machine.allocate())
    else:
        machine.memory.put(entry_of(domain, machine, 3), table_word(frame_address(table)))
    other, level = machine.pages.add_table(domain, G), 2 if is_mapped else 3
    address = entry_of(domain, machine, level)

    @machine.cpu(0)
    async def changer(cpu: Cpu) -> None:
        await StoreEntry(cpu, domain, G, level, address, table_word(frame_address(other)))

    assert [one.unit for one in broken(execute(machine)) if one.unit] == ["smmu0"] * is_mapped


# Every trace


def of_smmu(build: Build) -> Scenario:
    return scenario(expect=CLEAN, sequential=True, only={"smmu": "it is about the p2m"})(build)


def no_break(unit: str | None, agent: str = "cpu0") -> Signature:
    return Signature(FindingKind.NO_BREAK, "break before make", 1, G, None, unit, agent)


def test_a_flush_by_another_cpu_counts_where_it_comes_between() -> None:
    def program(m: Machine) -> None:
        domain = m.domain(1)
        m.premap(domain, G, m.allocate())
        address, word, tlb = entry_of(domain, m, 1), p2m_word(domain, m.allocate(), P2mType.RAM_RW), domain.cpu_tlb
        assert tlb is not None

        @m.cpu(0)
        async def changer(cpu: Cpu) -> None:
            await StoreEntry(cpu, domain, G, 1, address, 0)
            await StoreEntry(cpu, domain, G, 1, address, word)

        @m.cpu(1)
        async def flusher(cpu: Cpu) -> None:
            await FlushCpuTlb(tlb)

    done = explored(of_smmu(program), "")
    assert done.done == 3
    assert done.causes[no_break(None)].executions == 2


@pytest.mark.parametrize("synchronous", [True, False])
def test_an_invalidation_counts_where_it_has_completed_between(synchronous: bool) -> None:
    def program(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        m.premap(domain, G, m.allocate())
        address, word = entry_of(domain, m, 1), p2m_word(domain, m.allocate(), P2mType.RAM_RW)

        @m.cpu(0)
        async def changer(cpu: Cpu) -> None:
            await StoreEntry(cpu, domain, G, 1, address, 0)
            await StoreEntry(cpu, domain, G, 1, address, word)

        @m.cpu(1)
        async def flusher(cpu: Cpu) -> None:
            await m.hypervisor.flush_all(cpu, domain)

    done = explored(of_smmu(program), f"break_for_units=true synchronous={synchronous}")
    assert 0 < done.causes[no_break("smmu0")].executions < done.done
    assert done.causes[no_break(None)].executions == done.done


@pytest.mark.parametrize("revision", BUNDLED)
def test_a_page_that_one_cpu_removes_and_another_adds_is_found_where_the_second_replaces_it(revision: str) -> None:
    def program(m: Machine) -> None:
        m.driver.fixes.add(Fix.HAS_IOMMU)
        domain = m.domain(1, devices=(NIC,))
        old, new = m.allocate(), m.allocate()
        m.premap(domain, G, old)

        @m.cpu(0)
        async def remover(cpu: Cpu) -> None:
            await m.hypervisor.guest_physmap_remove_page(cpu, domain, G, old)

        @m.cpu(1)
        async def adder(cpu: Cpu) -> None:
            await m.hypervisor.guest_physmap_add_entry(cpu, domain, G, new)

    done = explored(of_smmu(program), f"break_for_units=true revision={revision}")
    assert list(done.causes) == [no_break("smmu0", "cpu1")]
    assert 0 < done.causes[no_break("smmu0", "cpu1")].executions < done.done


# Declared reads: a machine whose check reads what it has not declared ends with an error


def maps_and_attaches(platform: Platform, *, is_mapped: bool) -> Machine:
    """Return a machine whose CPUs map two pages, under tables that may be new, and attach a device."""
    machine = machine_of(platform, units=True)
    domain, new = machine.domain(1, devices=(NIC,), is_hvm=True), machine.allocate(page_order=1)
    late, calls = machine.plug(DISK), machine.hypervisor
    if is_mapped:
        machine.premap(domain, G, machine.allocate())

    async def mapper(cpu: Cpu, dfn: Dfn, mfn: Mfn) -> None:
        await (calls.guest_physmap_add_entry if platform is SMMU else calls.map)(cpu, domain, dfn, mfn)

    async def toolstack(cpu: Cpu) -> None:
        await machine.assignment.attach(cpu, domain, late)

    machine.cpu(0).runs(mapper, G, new)
    machine.cpu(1).runs(mapper, offset(G, 0x80), Mfn(new + 1))
    machine.cpu(2).runs(toolstack)
    return machine


@pytest.mark.parametrize("platform", [SMMU, VTD, AMD], ids=lambda one: one.name)
@pytest.mark.parametrize("is_mapped", [True, False])
def test_what_a_new_entry_leads_to_is_not_read(execute: Execute, platform: Platform, is_mapped: bool) -> None:
    for seed in range(SEEDS):
        assert bool(broken(execute(maps_and_attaches(platform, is_mapped=is_mapped), seed))) is is_mapped


@pytest.mark.parametrize("seed", range(SEEDS))
def test_splits_are_judged_by_declared_reads_while_another_cpu_flushes(execute: Execute, seed: int) -> None:
    machine = machine_of(units=True)
    replaced(machine, 2, 0)

    @machine.cpu(1)
    async def flusher(cpu: Cpu) -> None:
        await machine.hypervisor.flush_all(cpu, machine.domains[1])

    assert broken(execute(machine, seed))


# In words


def test_it_is_told_which_entry_took_whose_place_and_when_the_cpus_were_last_flushed(execute: Execute) -> None:
    machine = machine_of()
    own_code(machine, "flush clear flush-other new")
    (finding,) = broken(execute(machine))
    assert headline(finding, machine.trace) == (
        "no break: domain 1 dfn 0x100 got another entry while CPUs could still use the one before"
    )
    assert sentence(finding, machine.trace) == (
        f"no break: at step {finding.step} cpu0 stored 0x800001800137ff for domain 1 dfn 0x100 in the place of "
        "0x800001800127ff, which CPUs could still use"
    )
    assert [(fact.label, fact.text) for fact in facts(finding, machine)] == [
        ("before", "0x800001800127ff, which leads to mfn 0x180012"),
        ("after", "0x800001800137ff, which leads to mfn 0x180013"),
        ("replaced", "cpu0 had replaced the first at step 2"),
        ("flush", "the CPUs' TLBs had last been flushed at step 1"),
        ("store", "cpu0 stored the second at step 4, while CPUs could still use the first"),
    ]


def test_of_an_entry_that_is_replaced_in_place_it_is_not_told_when_it_gave_way(execute: Execute) -> None:
    machine = machine_of()
    own_code(machine, "new")
    (finding,) = broken(execute(machine))
    told = {fact.label: fact.text for fact in facts(finding, machine)}
    assert "replaced" not in told
    assert told["flush"] == "no CPU's TLB had been flushed"


@pytest.mark.parametrize("is_flushed", [True, False])
def test_of_a_unit_it_is_told_what_it_had_last_flushed(execute: Execute, is_flushed: bool) -> None:
    machine = machine_of(units=True)
    domain, new = machine.domain(1, devices=(NIC,)), machine.allocate()
    machine.premap(domain, G, machine.allocate())

    @machine.cpu(0)
    async def adder(cpu: Cpu) -> None:
        if is_flushed:
            await machine.hypervisor.flush_all(cpu, domain)
        await machine.hypervisor.guest_physmap_add_entry(cpu, domain, G, new)

    (finding,) = broken(execute(machine))
    flushed = steps(machine.trace.events(), "invalidate.complete")[0]
    told = {fact.label: fact.text for fact in facts(finding, machine)}
    last = f"smmu0 had completed the last one at step {flushed}, which did not drop the first"
    assert told["flush"] == (last if is_flushed else "smmu0 had completed none")
    assert "smmu0 could still use" in headline(finding, machine.trace)

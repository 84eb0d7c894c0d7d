"""The calls that fill a domain's tables: which pages they map, what they promise, and how they tell of a failure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu.checks.findings import Finding, FindingKind
from emu.cpus import Cpu
from emu.engine import Event
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ScenarioError
from emu.hypervisor.boot import FOUR_GIB, Boot, RamType
from emu.hypervisor.domain import Domain, IommuUse
from emu.hypervisor.ops import ENOMEM, ERESTART, ESRCH, OK
from emu.hypervisor.page_list import INVALID_GFN, ListName, PageType
from emu.hypervisor.revisions.loader import BUNDLED
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.platforms import PLATFORMS
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import scenario
from emu.units import Dfn, Mfn, offset
from tests.revisions import change, copy_of

G = Dfn(0x10)
EACH = pytest.mark.parametrize("revision", BUNDLED)
VENDORS = pytest.mark.parametrize("vendor", [name for name, one in PLATFORMS.items() if not one.apart])


@pytest.mark.parametrize(
    ("page", "boot", "is_mapped"),
    [
        (5, Boot(), True),
        (5, Boot(strict=True), False),
        (5, Boot(types={Dfn(5): RamType.UNUSABLE}), False),
        (5, Boot(types={Dfn(5): RamType.RESERVED}, reserved=False), True),
        (5, Boot(types={Dfn(5): RamType.RESERVED}, reserved=False, inclusive=False), False),
        (5, Boot(types={Dfn(5): RamType.RESERVED}, inclusive=False), True),
        (5, Boot(types={Dfn(5): RamType.UNKNOWN}), True),
        (5, Boot(types={Dfn(5): RamType.UNKNOWN}, inclusive=False), False),
        (FOUR_GIB, Boot(types={Dfn(FOUR_GIB): RamType.UNKNOWN}), False),
        (FOUR_GIB, Boot(), False),
        (FOUR_GIB, Boot(types={Dfn(FOUR_GIB): RamType.CONVENTIONAL}), True),
        (5, Boot(emulated=frozenset({Dfn(5)})), False),
        (5, Boot(is_translated=True, types={Dfn(5): RamType.RESERVED}), False),
        (0x100, Boot(is_translated=True), False),
        (0x100, Boot(is_translated=True, types={Dfn(0x100): RamType.RESERVED}), True),
        (0x100, Boot(is_translated=True, types={Dfn(0x100): RamType.UNKNOWN}), False),
    ],
)
def test_a_page_is_mapped_for_the_hardware_domain_as_the_options_say(page: int, boot: Boot, *, is_mapped: bool) -> None:
    assert boot.maps(Dfn(page)) == is_mapped


def booted(
    vendor: str, revision: str, boot: Boot, enter: Callable[[Machine, Domain], object] = lambda _, domain: domain
) -> tuple[Machine, list[Finding], list[Event]]:
    """Return a machine after a CPU has filled the hardware domain's tables, with its findings and events."""
    machine = Machine(Description(revision, PLATFORMS[vendor], is_checking=True))
    domain = machine.domain(0, devices=("00:1f.0",))
    domain.boot = boot
    enter(machine, domain)

    @machine.cpu(0)
    async def booter(cpu: Cpu) -> None:
        await machine.hypervisor.hwdom_init(cpu, domain)

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    return machine, machine.conclude(execution), list(machine.trace.events())


def own_pages(machine: Machine, domain: Domain) -> None:
    for number, type_ in enumerate(PageType):
        domain.page_list.enter(machine.allocate(domain=domain), offset(G, number), type_)


def legal(machine: Machine, page: int) -> set[tuple[int | None, bool, bool]]:
    """Return the frames and permissions by which the device may reach a page."""
    unit = machine.unit
    (tables, *_) = unit.tables_ever(machine.devices["00:1f.0"].source_id)
    found = [one for one in unit.ledger.legal(tables, Dfn(page)) if one.is_present]
    most = max((one.read + one.write for one in found), default=0)  # fewer: a table that was entered in three stores
    return {(one.frame(Dfn(page)), one.read, one.write) for one in found if one.read + one.write == most}


@EACH
@VENDORS
def test_the_hardware_domains_own_pages_are_mapped_as_their_types_say(vendor: str, revision: str) -> None:
    machine, findings, _ = booted(vendor, revision, Boot(strict=True), own_pages)
    assert findings == []
    pages = machine.domains[0].page_list
    for number, (mfn, type_) in enumerate(zip(pages.lists[ListName.PAGES], PageType, strict=True)):
        assert legal(machine, G + number) == {(mfn, True, type_ is not PageType.TABLE)}


@EACH
@VENDORS
def test_without_strict_its_own_pages_are_left_to_the_glue(vendor: str, revision: str) -> None:
    machine, findings, _ = booted(vendor, revision, Boot(pages=3, types={Dfn(1): RamType.UNUSABLE}), own_pages)
    assert findings == []
    assert [legal(machine, page) for page in (0, 1, 2, G)] == [{(0, True, True)}, set(), {(2, True, True)}, set()]


@EACH
@VENDORS
@pytest.mark.parametrize(("interval", "mapped"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3])])
def test_softirqs_are_processed_after_a_mapped_page_whose_index_is_a_multiple_of_the_interval(
    vendor: str, revision: str, interval: int, mapped: list[int]
) -> None:
    seen: list[list[int]] = []

    def watch(machine: Machine, domain: Domain) -> None:
        async def handler(cpu: Cpu) -> None:
            seen.append([page for page in range(4) if legal(machine, page)])

        machine.cpu(0)
        machine.cpus[0].raise_softirq(handler)

    boot = Boot(pages=4, softirq_interval=interval, types={Dfn(0): RamType.UNUSABLE})
    _, findings, _ = booted(vendor, revision, boot, watch)
    assert (findings, seen) == ([], [mapped])


@EACH
@VENDORS
def test_a_failure_of_a_call_without_a_result_is_told_by_logging_it(vendor: str, revision: str) -> None:
    def fail(machine: Machine, domain: Domain) -> None:
        machine.fail_hook("map_page", Dfn(1), ENOMEM)

    _, findings, events = booted(vendor, revision, Boot(pages=3), fail)
    assert [event.fields["text"] for event in events if event.name == "console.print"] == [
        "d0: IOMMU mapping of page 0x1 failed: -12"
    ]
    assert findings == []


@VENDORS
def test_a_failure_that_nobody_logs_is_a_lost_error(vendor: str, tmp_path: Path) -> None:
    line = '            printk(cpu, f"d{domain.number}: IOMMU mapping of page {page:#x} failed: {result}")\n'
    mine = copy_of("v1", tmp_path / "mine", "x86.py", line, "            pass\n")

    def fail(machine: Machine, domain: Domain) -> None:
        machine.fail_hook("map_page", Dfn(1), ENOMEM)

    _, findings, _ = booted(vendor, mine, Boot(pages=3), fail)
    assert [one.kind for one in findings] == [FindingKind.LOST_ERROR]


@EACH
@VENDORS
def test_the_pages_of_a_translated_domain_are_mapped_by_its_p2m(vendor: str, revision: str) -> None:
    boot = Boot(pages=0x102, is_translated=True, types={Dfn(0x100): RamType.RESERVED})
    machine, findings, _ = booted(vendor, revision, boot)
    assert findings == []
    assert machine.domains[0].p2m == {Dfn(0x100): Mfn(0x100)}
    assert legal(machine, 0x100) == {(0x100, True, True)}


Outcome = tuple[tuple[int, ...], tuple[tuple[str, int], ...], bool]


def populating(found: list[tuple[int, Outcome]], pages: int) -> Callable[[Machine], None]:
    """Return a scenario's function that populates a domain, and keeps the number of passes and the outcome."""

    def populates(m: Machine) -> None:
        domain = m.domain(1, devices=("00:1f.0",))
        domain.boot = Boot(preempt_interval=1)
        for number in range(pages):
            domain.page_list.enter(m.allocate(domain=domain), offset(G, number), PageType.WRITABLE)
        m.premap(domain, G, m.allocate(domain=domain), cached=True)

        @m.cpu(0)
        async def toolstack(cpu: Cpu) -> None:
            result, passes = ERESTART, 0
            while result == ERESTART:
                async with cpu.hypercall("assign_device"):
                    result = await m.hypervisor.populate(cpu, domain)
                    passes += 1
                    if result == ERESTART:
                        cpu.create_continuation()
            leaves = tuple(m.memory.peek(word) for word in sorted(m.memory.versions) if word in tables(m))
            flushes = tuple(sorted(m.counters.commands.items()))
            found.append((passes, (leaves, flushes, not domain.page_list.lists[ListName.RELMEM])))

    return populates


def tables(m: Machine) -> range:
    """Return the addresses of the tables of the machine's only domain."""
    (domain,) = m.domains.values()
    return range(min(domain.tables) << 12, (max(domain.tables) + 1) << 12, 8)


@EACH
@VENDORS
def test_wherever_a_populate_is_interrupted_tables_and_flush_are_the_same(vendor: str, revision: str) -> None:
    found: list[tuple[int, Outcome]] = []
    made = scenario(expect=CLEAN, sequential=True)(populating(found, 4))
    bound = made.bind({"iommu": vendor, "revision": revision})
    done = ScenarioExploration(bound, "populates", Plan("optimal"))
    for execution in done.each():
        direct.run(execution)
    assert done.is_exhausted
    assert done.done == 8  # it may stop after each of the first three pages
    assert done.causes == {}
    assert sorted(passes for passes, _ in found[-8:]) == [1, 2, 2, 2, 3, 3, 3, 4]
    assert len({outcome for _, outcome in found}) == 1


def populated(
    vendor: str, revision: str, enter: Callable[[Machine, Domain], object]
) -> tuple[int, Machine, list[Finding]]:
    machine = Machine(Description(revision, PLATFORMS[vendor], is_checking=True))
    domain = machine.domain(1, devices=("00:1f.0",))
    enter(machine, domain)
    results = []

    @machine.cpu(0)
    async def toolstack(cpu: Cpu) -> None:
        async with cpu.hypercall("assign_device"):
            results.append(await machine.hypervisor.populate(cpu, domain))

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    return results[0], machine, machine.conclude(execution)


@EACH
@VENDORS
def test_populate_maps_the_writable_pages_that_the_guest_has_somewhere(vendor: str, revision: str) -> None:
    def enter(machine: Machine, domain: Domain) -> None:
        own_pages(machine, domain)
        domain.page_list.enter(machine.allocate(domain=domain), INVALID_GFN, PageType.WRITABLE)

    result, machine, findings = populated(vendor, revision, enter)
    assert (result, findings) == (OK, [])
    is_mapped = [bool(legal(machine, G + number)) for number in range(len(PageType))]
    assert is_mapped == [type_ is PageType.WRITABLE for type_ in PageType]


@EACH
@VENDORS
def test_after_an_error_the_page_is_back_on_its_list_and_the_tables_are_given_up(vendor: str, revision: str) -> None:
    def enter(machine: Machine, domain: Domain) -> None:
        for number in range(3):
            domain.page_list.enter(machine.allocate(domain=domain), offset(G, number), PageType.WRITABLE)
        machine.fail_hook("map_page", offset(G, 1), ENOMEM)

    result, machine, findings = populated(vendor, revision, enter)
    domain = machine.domains[1]
    assert (result, findings) == (ENOMEM, [])
    assert domain.is_torn_down.value
    gfns = {name: [domain.page_list.gfns[mfn] - G for mfn in pages] for name, pages in domain.page_list.lists.items()}
    assert gfns == {ListName.PAGES: [1, 2], ListName.RELMEM: [0]}


@EACH
@VENDORS
def test_a_dying_domain_is_not_populated(vendor: str, revision: str) -> None:
    def enter(machine: Machine, domain: Domain) -> None:
        own_pages(machine, domain)
        domain.is_dying.value = True

    result, machine, findings = populated(vendor, revision, enter)
    assert (result, findings) == (ESRCH, [])
    assert not any(legal(machine, G + number) for number in range(len(PageType)))


def test_a_revision_without_the_function_is_told_so(tmp_path: Path) -> None:
    mine = copy_of("v1", tmp_path / "mine")
    (Path(mine) / "x86.py").unlink()
    with pytest.raises(ScenarioError, match="has no arch_iommu_hwdom_init: copy it from one that comes with emu"):
        booted("vtd", mine, Boot(pages=1))


def test_the_glue_of_a_users_revision_calls_the_wrappers_beside_it(tmp_path: Path) -> None:
    old = "    result = OK\n    flush_type = FlushType.NONE\n    for i in range(page_count(page_order)):\n"
    mine = copy_of("v1", tmp_path / "mine", "iommu.py", old, f"    return {ENOMEM}\n{old}")
    _, _, events = booted("vtd", mine, Boot(pages=1))
    assert [event.name for event in events if event.name == "console.print"] == ["console.print"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pages": -4}, "pages=-4"),
        ({"pages": True}, "pages=True"),
        ({"softirq_interval": 0}, "softirq_interval=0"),
        ({"preempt_interval": 0}, "preempt_interval=0"),
    ],
)
def test_options_that_cannot_be_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        Boot(**values)


def test_a_page_is_entered_once_with_a_type() -> None:
    machine = Machine(Description())
    domain, mfn = machine.domain(0), machine.allocate()
    written: Any = "writable"
    with pytest.raises(ScenarioError, match="'writable' is no type of a page"):
        domain.page_list.enter(mfn, G, written)
    domain.page_list.enter(mfn, G)
    with pytest.raises(ScenarioError, match="is in the page list already: enter each frame once"):
        domain.page_list.enter(mfn, offset(G, 1))
    with pytest.raises(ScenarioError, match="is in the page list already: enter each page once"):
        domain.page_list.enter(machine.allocate(), G)
    domain.page_list.enter(machine.allocate(), INVALID_GFN)
    domain.page_list.enter(machine.allocate(), INVALID_GFN)


def test_only_the_hardware_domain_is_filled_at_boot() -> None:
    machine = Machine(Description())
    domain = machine.domain(1)

    @machine.cpu(0)
    async def booter(cpu: Cpu) -> None:
        await machine.hypervisor.hwdom_init(cpu, domain)

    with pytest.raises(ScenarioError, match="domain 1 is not the hardware domain"):
        direct.run(machine.execution(RoundRobinStrategy()))


BEGINS = {"iommu.py": "    if domain.need_sync:\n", "x86.py": "    if domain.is_passthrough:\n"}
"""Where the function of each file begins that fills tables at boot."""


@pytest.mark.parametrize("file", BEGINS)
def test_a_log_tells_only_of_failures_before_it_and_of_its_own_call(file: str, tmp_path: Path) -> None:
    mine = copy_of("v1", tmp_path / "mine", file, BEGINS[file], f"    printk(cpu, 'filling')\n{BEGINS[file]}")
    change(
        Path(mine) / file,
        '            printk(cpu, f"d{domain.number}: IOMMU mapping',
        '            str(f"d{domain.number}: IOMMU mapping',
    )

    def fail(machine: Machine, domain: Domain) -> None:
        own_pages(machine, domain)
        machine.fail_hook("map_page", G, ENOMEM)
        machine.fail_hook("map_page", Dfn(1), ENOMEM)

    boot = Boot(strict=True, pages=3, types={Dfn(1): RamType.RESERVED})
    _, findings, events = booted("vtd", mine, boot, fail)
    assert [one.kind for one in findings] == [FindingKind.LOST_ERROR]
    assert len([event for event in events if event.name == "console.print"]) == 2


def test_a_map_that_returns_erestart_is_a_map_that_fails(tmp_path: Path) -> None:
    mine = copy_of(
        "merged",
        tmp_path / "mine",
        "iommu.py",
        "    return result\n\n\nasync def iommu_unmap(",
        "    return -85\n\n\nasync def iommu_unmap(",
    )
    machine = Machine(Description(mine, is_checking=True))
    domain = machine.domain(1, devices=("00:1f.0",))
    frame = machine.allocate()

    @machine.cpu(0)
    async def mapper(cpu: Cpu) -> None:
        await machine.hypervisor.map(cpu, domain, G, frame)

    execution = machine.execution(RoundRobinStrategy())
    direct.run(execution)
    assert [one.kind for one in machine.conclude(execution)] == [FindingKind.NOT_ROLLED_BACK]


def test_a_hook_cannot_take_any_domain_for_a_dying_one(tmp_path: Path) -> None:
    mine = copy_of(
        "merged",
        tmp_path / "mine",
        "vtd.py",
        "        return await dma_pte_clear_one(cpu, self.driver, domain, dfn)\n",
        "        from emu.hypervisor.ops import DomainIsDyingError\n\n        raise DomainIsDyingError\n",
    )
    machine = Machine(Description(mine))
    domain = machine.domain(1, devices=("00:1f.0",))

    @machine.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await machine.hypervisor.unmap(cpu, domain, G)

    with pytest.raises(ScenarioError, match="domain 1 is not dying"):
        direct.run(machine.execution(RoundRobinStrategy()))


def test_a_flush_that_fails_excuses_no_page_that_is_not_mapped(tmp_path: Path) -> None:
    old = "            error, _ = await domain.ops.map_page(cpu, domain, dfn, mfn, mapping)\n"
    mine = copy_of("v1", tmp_path / "mine", "iommu.py", old, "            error = OK\n")
    _, findings, _ = booted("vtd", mine, Boot(strict=True), own_pages)
    assert FindingKind.WRONG_RESULT in {one.kind for one in findings}


def test_a_page_whose_type_changes_meanwhile_is_not_judged_and_the_change_is_explored() -> None:
    def builds(m: Machine) -> None:
        domain = m.domain(0, devices=("00:1f.0",))
        domain.boot = Boot(strict=True)
        domain.page_list.enter(m.allocate(domain=domain), G, PageType.WRITABLE)
        (variable,) = domain.page_list.types.values()

        @m.cpu(0)
        async def booter(cpu: Cpu) -> None:
            await m.hypervisor.hwdom_init(cpu, domain)

        @m.cpu(1)
        async def other(cpu: Cpu) -> None:
            await variable.write(PageType.TABLE)

    made = scenario(expect=CLEAN)(builds)
    done = ScenarioExploration(made.bind({"revision": "merged"}), "builds", Plan("optimal"))
    for execution in done.each():
        direct.run(execution)
    assert done.done > 2
    assert done.causes == {}


def test_a_second_pass_still_need_not_map_what_the_first_need_not() -> None:
    def shared(m: Machine) -> None:
        domain = m.domain(1, devices=("00:1f.0",), use=IommuUse.SHARED)
        domain.boot = Boot(preempt_interval=1)
        for number in range(2):
            domain.page_list.enter(m.allocate(domain=domain), offset(G, number), PageType.WRITABLE)

        @m.cpu(0)
        async def toolstack(cpu: Cpu) -> None:
            async with cpu.hypercall("assign_device"):
                while await m.hypervisor.populate(cpu, domain) == ERESTART:
                    cpu.create_continuation()

    done = ScenarioExploration(scenario(expect=CLEAN, sequential=True)(shared).bind({}), "shared", Plan("optimal"))
    for execution in done.each():
        direct.run(execution)
    assert (done.done, done.causes) == (2, {})

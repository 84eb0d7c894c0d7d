"""A unit caches a superpage as a whole or page by page, as it likes (VT-d 6.2.4.1), and software must flush for both.

All explorations are exhausted. A superpage of 2 MiB has two pages.
"""

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from emu.checks.details import Evidence
from emu.checks.findings import FindingKind, Stale
from emu.cpus import Cpu
from emu.devices.device import Device
from emu.engine import Choose, Event
from emu.engine.hosts import direct
from emu.engine.strategies.random import RandomStrategy
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.hypervisor.ops import OK
from emu.iommus.vtd.settings import VtdSettings
from emu.machine.description import Description
from emu.machine.machine import Machine
from emu.running.exploration import ScenarioExploration
from emu.running.plan import Plan
from emu.scenarios.expectation import CLEAN
from emu.scenarios.scenario import BoundScenario, scenario
from emu.units import Dfn, offset
from tests.classes import Classes
from tests.revisions import change

NIC = "00:1f.0"
G = Dfn(0x400)
H = offset(G, 1)
FOLDER = Path(__file__).parents[1] / "superpages"

Body = Callable[[Machine], None]


@pytest.fixture
def revision(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return a revision that unmaps a superpage by one leaf and flushes all its pages, or the first page alone."""
    if request.param == "whole":
        return str(FOLDER)
    for path in FOLDER.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    change(tmp_path / "vtd.py", "order, result = page_count.bit_length() - 1, OK", "order, result = 0, OK")
    return str(tmp_path)


WHOLE_OR_FIRST = pytest.mark.parametrize("revision", ["whole", "first"], indirect=True)
WHOLE = pytest.mark.parametrize("revision", ["whole"], indirect=True)
FIRST = pytest.mark.parametrize("revision", ["first"], indirect=True)


def used_before_and_after(m: Machine) -> None:
    """A device reads the second page of a superpage before a CPU unmaps it, and again when the unmap has returned."""
    domain = m.domain(1, devices=(NIC,))
    m.premap(domain, G, m.allocate(page_order=1, domain=domain), page_order=1, superpage=True)
    used, unmapped = m.signal("used"), m.signal("unmapped")

    @m.device(NIC)
    async def device(device: Device) -> None:
        await device.read(H)
        await used.send()
        await unmapped.wait()
        await device.read(H)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        await used.wait()
        assert await m.hypervisor.unmap(cpu, domain, G, page_order=1) == OK
        await unmapped.send()


def read_beside_an_unmap(m: Machine) -> None:
    """A device reads the second page of a superpage twice while a CPU unmaps it."""
    domain = m.domain(1, devices=(NIC,))
    m.premap(domain, G, m.allocate(page_order=1, domain=domain), page_order=1, superpage=True)

    @m.device(NIC)
    async def device(device: Device) -> None:
        await device.read(H)
        await device.read(H)

    @m.cpu(0)
    async def unmapper(cpu: Cpu) -> None:
        assert await m.hypervisor.unmap(cpu, domain, G, page_order=1) == OK


def bound(body: Body, revision: str, parameters: str = "") -> BoundScenario:
    """Return a program with a small machine."""
    texts = dict(pair.split("=") for pair in f"walk_at_once=true superpage_bits=1 {parameters}".split())
    return scenario(expect=CLEAN, sequential=True)(body).bind({"revision": revision, **texts})


def explored(program: BoundScenario, *, sections: bool = True) -> ScenarioExploration:
    """Return an exploration of every trace."""
    done = ScenarioExploration(program, __file__, Plan(sections=sections))
    done.on("direct")
    assert done.failure is None
    assert done.is_exhausted
    assert done.coverage.blocked == 0
    return done


@attrs.define
class Caching(RoundRobinStrategy):
    """Have the unit cache superpages as a whole, or in pieces."""

    in_pieces: bool = False

    def choose(self, choice: Choose) -> int:
        assert choice.about == "cache one page of a superpage"
        return int(self.in_pieces)


def run(body: Body, revision: str, *, in_pieces: bool) -> tuple[Machine, list[Event]]:
    """Return a machine whose unit has cached superpages in one way, and its events."""
    m = Machine(Description(revision, settings=VtdSettings(superpage_bits=1), is_checking=True))
    body(m)
    execution = m.execution(Caching(in_pieces=in_pieces))
    direct.run(execution)
    m.conclude(execution)
    return m, list(m.trace.events())


@FIRST
@pytest.mark.parametrize("in_pieces", [True, False])
def test_a_piece_outlives_the_invalidation_of_another_page_and_the_whole_does_not(
    revision: str, in_pieces: bool
) -> None:
    m, events = run(used_before_and_after, revision, in_pieces=in_pieces)
    (fill,) = (one for one in events if one.name == "iotlb.fill")
    assert (fill.fields["dfn"], fill.fields["page_order"]) == (H, 0 if in_pieces else 1)
    (dropped,) = (one.fields["removed"] for one in events if one.name == "iotlb.invalidate")
    assert dropped == (0 if in_pieces else 1)
    last = [one.name for one in events if one.name in {"dma.read", "dma.fault"}][-1]
    assert last == ("dma.read" if in_pieces else "dma.fault")
    (found,) = m.findings
    assert isinstance(found, Stale)
    assert (found.dfn, found.evidence) == (H, Evidence.OBSERVED if in_pieces else Evidence.POSSIBLE)


@WHOLE
@pytest.mark.parametrize("in_pieces", [True, False])
def test_an_invalidation_of_all_pages_drops_the_pieces_and_the_whole(revision: str, in_pieces: bool) -> None:
    m, events = run(used_before_and_after, revision, in_pieces=in_pieces)
    (dropped,) = (one.fields["removed"] for one in events if one.name == "iotlb.invalidate")
    assert dropped == 1
    assert [one.name for one in events if one.name in {"dma.read", "dma.fault"}] == ["dma.read", "dma.fault"]
    assert m.findings == []


@FIRST
def test_an_exploration_finds_that_a_device_uses_the_piece_that_was_left(revision: str) -> None:
    (cause,) = explored(bound(used_before_and_after, revision)).causes.values()
    assert (cause.signature.kind, cause.signature.dfn) == (FindingKind.STALE, H)
    assert isinstance(cause.finding, Stale)
    assert cause.finding.evidence is Evidence.OBSERVED


@WHOLE
@pytest.mark.parametrize("body", [used_before_and_after, read_beside_an_unmap])
def test_and_with_all_pages_flushed_nothing_is_used_that_the_ledger_does_not_allow(revision: str, body: Body) -> None:
    done = explored(bound(body, revision))
    assert done.causes == {}
    assert done.done > 1


@FIRST
def test_what_the_ledger_allows_for_the_other_page_is_what_a_piece_gives(revision: str) -> None:
    assert {one.kind for one in explored(bound(read_beside_an_unmap, revision)).causes} == {FindingKind.STALE}


@WHOLE_OR_FIRST
@pytest.mark.parametrize(
    "parameters",
    ["", *(pytest.param(one, marks=[pytest.mark.ci_long]) for one in ("drain=false", "iotlb_entries=1"))],
)
def test_an_exploration_of_superpages_misses_nothing(revision: str, parameters: str) -> None:
    program = bound(read_beside_an_unmap, revision, f"{parameters} synchronous=true")
    done, classes = explored(program, sections=False), Classes.of(program)
    assert done.done == classes.traces
    assert set(done.causes) == classes.signatures


@WHOLE
def test_the_choice_doubles_the_traces_of_one_fill(revision: str) -> None:
    def one_read(m: Machine) -> None:
        domain = m.domain(1, devices=(NIC,))
        m.premap(domain, G, m.allocate(page_order=1), page_order=1, superpage=True)

        @m.device(NIC)
        async def device(device: Device) -> None:
            await device.read(H)

    assert explored(bound(one_read, revision)).done == 2


@pytest.mark.parametrize("is_superpage", [True, False])
def test_only_of_a_superpage_is_there_a_choice(is_superpage: bool) -> None:
    m = Machine(Description("v1", settings=VtdSettings(superpage_bits=1), is_checking=True))
    domain = m.domain(1, devices=(NIC,))
    m.premap(domain, G, m.allocate(page_order=1), page_order=1, superpage=is_superpage)

    @m.device(NIC)
    async def device(device: Device) -> None:
        await device.read(H)

    direct.run(m.execution(RandomStrategy.seeded(0)))
    events = [one for one in m.trace.events() if one.name in {"choice", "iotlb.fill"}]
    assert [one.name for one in events] == (["choice", "iotlb.fill"] if is_superpage else ["iotlb.fill"])
    assert ("page_order" in events[-1].fields) == is_superpage

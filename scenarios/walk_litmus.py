"""Litmus tests of page-table walks, by their names in the literature on Arm, with devices where those have CPUs.

CPU 0 changes the entry of a page, and two devices read the page. What a test forbids, no order of steps shows. What a
test allows, a device sees in some order, which breaks the claim. Where the CPU has waited for an invalidation, it is
also claimed of the ledger that no unit may use the old entry.

`dsb` is the point from which all walks see a store. Where walks snoop that is the store itself, so the tests without a
`dsb` need `coherent=false`: there it is the write-back of the line. `tlbi` asks the units to drop what they have cached
of the domain, and `sync` waits until that is done, as the `dsb` behind a `tlbi` does. A message is a word in a page of
its own, or a signal where the receiver waits for it.

A unit of the model fetches nothing unasked, and its walks read the newest value that is certainly visible. Two agents
make up for that. The second device reads the page at any time, as a unit might on its own account. CPU 1, where a test
has it, is a cache that evicts a line at any time. So each outcome that is allowed here is seen. One that is left to the
ledger: of two walks the first sees a store whose line was never written back, and the second does not.

A device issues its reads in order and takes no exceptions. So four sorts of tests are not here. What a CPU reads too
early, for want of a barrier or of an `isb`: CoTR, CoRT, CoWT, CoWT.inv, CoWT.inv+dmb, CoWT.inv+dsb, CoWT1+dsb-tlbi-dsb,
MP.RT.inv+dmb+po, WRC.TRT.inv+po+addr, WRC.TRT.inv+po+dmb, ISA2.TRR+dmb+po+dmb. What differs from a test here by an
`isb` only, as MP.BBM1+dsb-isb-tlbiis-dsb-isb-dsb-isb+dsb-isb does. What an exception orders: CoWT+dsb-svc-tlbi-dsb and
MP.RT+svc-dsb-tlbiis-dsb+dsb-isb. What is about CPUs alone: a `tlbi` on one CPU for another, the instruction `at`
(W+AT), and CoWR.alias.

Sources: Simner et al., Relaxed virtual memory in Armv8-A (ESOP 2022), and the tests of the system-litmus-harness.
"""

from collections.abc import Callable, Mapping
from enum import Enum

import attrs

from emu import Cpu, Device, Dfn, Domain, Machine, Mfn, ScenarioError, scenario
from emu.cpus import Signal
from emu.hypervisor.smmu import SmmuDriver
from emu.hypervisor.smmu.flush import arm_smmu_tlb_sync, vmid_of
from emu.iommus.smmu.queue import WriteTlbRegister
from emu.memory import WriteBack
from emu.units import Maddr, frame_address

READER, OTHER = "00:1f.0", "00:02.0"

G, NEIGHBOUR, LINKED, MESSAGE = Dfn(0x1000), Dfn(0x1008), Dfn(0x1200), Dfn(0x1208)
"""The page, and one in its table; the page with its index in another table, and the page of the message there."""

FIRST, OLD, NEW, SECRET, SENT = 1, 2, 3, 4, 5
"""What is read in the frames, and of the message. SECRET is stored in the frame that had OLD."""


@attrs.define
class Seen:
    """What each device has read so far, of the page and of the message; None where it was refused."""

    reader: list[int | None] = attrs.field(factory=list)
    other: list[int | None] = attrs.field(factory=list)


@attrs.frozen
class Claim:
    """What is claimed of what the devices have seen in the end."""

    text: str
    holds: Callable[[Seen], bool]


NO_SECRET = Claim("no device reads the secret", lambda seen: SECRET not in seen.reader)
IN_ORDER = Claim("no walk finds the new table and an old entry in it", lambda seen: OLD not in seen.reader)
REFUSED = Claim("the page is refused", lambda seen: seen.reader[-1] is None)
MAPPED = Claim("the page is not refused", lambda seen: seen.reader[-1] is not None)
REPLACED = Claim("the old frame is not read", lambda seen: seen.reader[-1] != OLD)
NOT_LATER = Claim("no device reads by what is stored later", lambda seen: seen.reader == [OLD])
NOT_BACK = Claim("no device reads the new frame and then the old one", lambda seen: seen.reader != [NEW, OLD])
NOT_OLD = Claim("no device that was told reads the old frame", lambda seen: seen.reader[-2:] != [SENT, OLD])
NOT_TOLD_AND_REFUSED = Claim("no device that was told is refused", lambda seen: seen.reader[-2:] != [SENT, None])
ONLY_NEW = Claim(
    "a device that was told reads the new frame", lambda seen: seen.reader[-2] != SENT or seen.reader[-1] == NEW
)
TOLD_BY_USER = Claim(
    "no device is refused that was told by one that has read the page",
    lambda seen: NEW not in seen.other or seen.reader[-2:] != [SENT, None],
)


class Before(Enum):
    """What stands there before the first step."""

    MAPPED = "the page leads to the frame with OLD"
    ABSENT = "the page has no entry"
    NO_TABLE = "the page has no table; another table leads to the frame with OLD"
    TABLE = "the page leads to the frame with FIRST; another table leads to the frame with OLD"


@attrs.frozen
class Program:
    """What the agents of a test do.

    Attributes:
        cpu, reader, other: the steps of CPU 0 and of the devices: the names of methods of `Cast`.
        evicted: the level of the entry whose line CPU 1 writes back at any time; 0 if no CPU 1 does.
        is_apart: the second device is behind a unit of its own.
    """

    claim: Claim
    cpu: str
    reader: str = "wait read"
    other: str = "read"
    before: Before = Before.MAPPED
    evicted: int = 0
    is_apart: bool = False


class Litmus(Enum):
    """The tests. RBS+dsb and RBS+dsb-tlbiis are RBS+dsb-tlbiis-dsb without what their names lack."""

    RBS_FLUSHED = "RBS+dsb-tlbiis-dsb"
    RBS_NOT_AWAITED = "RBS+dsb-tlbiis"
    RBS = "RBS+dsb"
    ROT_INV = "ROT.inv+dsb"
    ROT = "ROT+po-po"
    WRC = "WRC.TRTf.inv+dsb+dsb-isb"
    COTW = "CoTW"
    COTT = "CoTT"
    COWINVT_FLUSHED = "CoWinvT1+dsb-tlbi-dsb"
    COWINVT_EARLY = "CoWinvT1+tlbi-dsb"
    COWINVT = "CoWinvT+dsb-isb"
    COWT_INV = "CoWT.inv+dsb-isb"
    COWT_FLUSHED = "CoWT1+dsb-tlbi-dsb-isb"
    COWT = "CoWT+dsb-isb"
    RT_FLUSHED = "MP.RT1+dsb-tlbiis-dsb+dsb-isb"
    RT_INV = "MP.RT.inv+dmb+addr"
    RT = "MP.RT+dmbs"
    BBM_FLUSHED = "MP.BBM1+dsb-tlbiis-dsb-dsb+dsb-isb"
    BBM_EARLY = "MP.BBM1+tlbiis-dsb-dsb+dsb-isb"
    BBM = "MP.BBM+dmb-dmb+dmb"


PROGRAMS: Mapping[Litmus, Program] = {
    Litmus.RBS_FLUSHED: Program(NO_SECRET, "clear dsb tlbi sync hide", "read"),
    Litmus.RBS_NOT_AWAITED: Program(NO_SECRET, "clear dsb tlbi hide", "read"),
    Litmus.RBS: Program(NO_SECRET, "clear dsb hide", "read"),
    Litmus.ROT_INV: Program(IN_ORDER, "store_linked dsb link dsb", "read", before=Before.NO_TABLE),
    Litmus.ROT: Program(IN_ORDER, "store_linked link", "read", before=Before.TABLE, evicted=2),
    Litmus.WRC: Program(TOLD_BY_USER, "store", "read receive read", "read pass_on", Before.ABSENT, 1, is_apart=True),
    Litmus.COTW: Program(NOT_LATER, "wait store dsb", "read signal"),
    Litmus.COTT: Program(NOT_BACK, "store dsb", "read read"),
    Litmus.COWINVT_FLUSHED: Program(REFUSED, "clear dsb tlbi sync signal"),
    Litmus.COWINVT_EARLY: Program(REFUSED, "clear tlbi sync dsb signal"),
    Litmus.COWINVT: Program(REFUSED, "clear dsb signal"),
    Litmus.COWT_INV: Program(MAPPED, "store dsb signal", before=Before.ABSENT),
    Litmus.COWT_FLUSHED: Program(REPLACED, "store dsb tlbi sync signal"),
    Litmus.COWT: Program(REPLACED, "store dsb signal"),
    Litmus.RT_FLUSHED: Program(NOT_OLD, "store dsb tlbi sync tell", "receive read"),
    Litmus.RT_INV: Program(NOT_TOLD_AND_REFUSED, "store dsb tell", "receive read", before=Before.ABSENT),
    Litmus.RT: Program(NOT_OLD, "store dsb tell", "receive read"),
    Litmus.BBM_FLUSHED: Program(ONLY_NEW, "clear dsb tlbi sync store dsb tell", "receive read"),
    Litmus.BBM_EARLY: Program(ONLY_NEW, "clear tlbi sync store dsb tell", "receive read"),
    Litmus.BBM: Program(ONLY_NEW, "clear dsb store dsb tell", "receive read"),
}


@attrs.frozen
class Cast:
    """What the agents of a test share, and the steps that they take.

    Attributes:
        page, above, linked: the entry of the page, the one above it, and the entry of the page in the other table.
        table: the word that leads to the other table.
        frames: the frame that is read as FIRST, OLD, NEW or SENT.
        told: what one agent waits for.
        stored: the entries that CPU 0 has stored since the last `dsb`.
        seen: what the devices have seen.
    """

    domain: Domain
    driver: SmmuDriver
    page: Maddr
    above: Maddr
    linked: Maddr
    table: int
    frames: Mapping[int, Mfn]
    told: Signal
    stored: list[Maddr] = attrs.field(factory=list)
    seen: Seen = attrs.field(factory=Seen)

    async def act(self, agent: Cpu | Device, steps: str) -> None:
        """Take steps, one after the other."""
        for step in steps.split():
            await getattr(self, step)(agent)

    async def enter(self, cpu: Cpu, address: Maddr, dfn: Dfn, word: int, level: int = 1) -> None:
        """Store an entry."""
        event = "pte.write" if word else "pte.clear"
        await cpu.store64(address, word, event, domain=self.domain.number, dfn=dfn, table_level=level)
        self.stored.append(address)

    async def clear(self, cpu: Cpu) -> None:
        await self.enter(cpu, self.page, G, 0)

    async def store(self, cpu: Cpu) -> None:
        await self.enter(cpu, self.page, G, self.new_leaf())

    async def store_linked(self, cpu: Cpu) -> None:
        await self.enter(cpu, self.linked, LINKED, self.new_leaf())

    async def link(self, cpu: Cpu) -> None:
        await self.enter(cpu, self.above, G, self.table, 2)

    def new_leaf(self) -> int:
        """Return the entry that leads to the frame with NEW."""
        return self.domain.format.encode_leaf(frame_address(self.frames[NEW]), read=True, write=True)

    async def dsb(self, cpu: Cpu) -> None:
        while self.stored:
            await self.write_back(cpu, self.stored.pop(0))

    async def write_back(self, cpu: Cpu, address: Maddr) -> None:
        """Write an entry's line back, where walks do not snoop."""
        if not cpu.memory.is_coherent:
            await WriteBack(cpu.memory, address)

    async def tlbi(self, cpu: Cpu) -> None:
        for context in self.driver.domains[self.domain.number].contexts.value:
            await WriteTlbRegister(self.driver.iommus[context.iommu].unit.queue, vmid_of(context.bank))

    async def sync(self, cpu: Cpu) -> None:
        for iommu in self.driver.iommus:
            await arm_smmu_tlb_sync(cpu, self.driver, iommu)

    async def hide(self, cpu: Cpu) -> None:
        await cpu.store64(frame_address(self.frames[OLD]), SECRET)

    async def tell(self, cpu: Cpu) -> None:
        await cpu.store64(frame_address(self.frames[SENT]), SENT)

    async def pass_on(self, device: Device) -> None:
        await device.write(MESSAGE, SENT)

    async def signal(self, agent: Cpu | Device) -> None:
        await self.told.send()

    async def wait(self, agent: Cpu | Device) -> None:
        await self.told.wait()

    async def read(self, device: Device) -> None:
        self.seen_by(device).append(await device.read(G))

    async def receive(self, device: Device) -> None:
        self.seen_by(device).append(await device.read(MESSAGE))

    def seen_by(self, device: Device) -> list[int | None]:
        """Return what a device has seen."""
        return self.seen.reader if device.bdf == READER else self.seen.other

    def units_use_old(self) -> bool:
        """Whether some unit may still translate the page to the frame with OLD."""
        units = (iommu.unit for iommu in self.driver.iommus)
        legal = (unit.ledger.legal(tables, G) for unit in units for tables in unit.tables_at(self.domain.pgd))
        return any(one.frame(G) == self.frames[OLD] for found in legal for one in found)


def entry_of(m: Machine, domain: Domain, dfn: Dfn, level: int) -> Maddr:
    """Return the address of a page's entry of a level, as the tables are before the first step."""
    format_, table = domain.format, domain.pgd
    for above in range(domain.levels, level, -1):
        entry = format_.decode(m.memory.peek(format_.entry_address(table, dfn, above)), above)
        table = Maddr(0) if entry is None else entry.address
    return format_.entry_address(table, dfn, level)


def cast_of(m: Machine, program: Program) -> Cast:
    """Set the machine up, and return what the agents share.

    Raises:
        ScenarioError: if the units are no SMMUs.
    """
    if program.is_apart:
        m.scope(1, OTHER)
    domain, driver = m.domain(1, devices=(READER, OTHER)), m.driver
    if not isinstance(driver, SmmuDriver):
        raise ScenarioError(f"{driver!r} has no TLB registers: run this on SMMUs")
    frames = {value: m.allocate() for value in (FIRST, OLD, NEW, SENT)}
    for value in (FIRST, OLD, NEW):
        m.memory.put(frame_address(frames[value]), value)
    m.premap(domain, MESSAGE, frames[SENT], cached=True)
    if program.before is not Before.NO_TABLE:
        m.premap(domain, NEIGHBOUR, m.allocate())
    if program.before is Before.MAPPED:
        m.premap(domain, G, frames[OLD])
    elif program.before is not Before.ABSENT:
        m.premap(domain, LINKED, frames[OLD])
    if program.before is Before.TABLE:
        m.premap(domain, G, frames[FIRST])
    page, above, linked = entry_of(m, domain, G, 1), entry_of(m, domain, G, 2), entry_of(m, domain, LINKED, 1)
    table = m.memory.peek(entry_of(m, domain, LINKED, 2))
    return Cast(domain, driver, page, above, linked, table, frames, m.signal("told"))


@scenario(
    verdicts="""
    wait_faults>0 | no claim: a poll that is given up passes for completed (B63)
    # The read was translated before the invalidation, and is made after the secret was stored.
    test=RBS+dsb-tlbiis-dsb drain=false | assertion
    test=RBS+dsb-tlbiis synchronous=true | clean  # the invalidation is over with the step that asks for it
    test=RBS+dsb-tlbiis,RBS+dsb,CoTT,CoWinvT+dsb-isb,CoWT+dsb-isb,MP.RT+dmbs,MP.BBM+dmb-dmb+dmb | assertion
    # Without a dsb before the tlbi, or between two stores. A store that is seen at once needs none.
    test=ROT+po-po,CoWinvT1+tlbi-dsb,MP.BBM1+tlbiis-dsb-dsb+dsb-isb coherent=false | assertion
    test=ROT+po-po,CoWinvT1+tlbi-dsb,MP.BBM1+tlbiis-dsb-dsb+dsb-isb | clean
    test=RBS+dsb-tlbiis-dsb,ROT.inv+dsb,WRC.TRTf.inv+dsb+dsb-isb,CoTW coherent=true,false | clean
    test=CoWinvT1+dsb-tlbi-dsb,CoWT.inv+dsb-isb,CoWT1+dsb-tlbi-dsb-isb coherent=true,false | clean
    test=MP.RT1+dsb-tlbiis-dsb+dsb-isb,MP.RT.inv+dmb+addr coherent=true,false | clean
    test=MP.BBM1+dsb-tlbiis-dsb-dsb+dsb-isb coherent=true,false | clean
    - | clean
    """,
    small={"synchronous": "false"},
    only={"smmu": "the tests are about walks of Arm's tables, and a TLB that software invalidates by registers"},
)
def walk_litmus(m: Machine, *, test: Litmus = Litmus.RBS_FLUSHED) -> None:
    """A CPU changes the entry of a page, and devices read the page: a litmus test of page-table walks.

    test: its name in the literature.
    """
    program = PROGRAMS[test]
    cast = cast_of(m, program)
    m.finally_(program.claim.text, lambda: program.claim.holds(cast.seen))
    if "sync" in program.cpu:
        m.finally_("no unit may translate the page to the old frame", lambda: not cast.units_use_old())
    m.cpu(0).runs(cast.act, program.cpu)
    if program.evicted:
        m.cpu(1).runs(cast.write_back, cast.page if program.evicted == 1 else cast.above)
    m.device(READER).runs(cast.act, program.reader)
    m.device(OTHER).runs(cast.act, program.other)

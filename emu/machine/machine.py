"""One machine, wired from a frozen description: memory, units, CPUs, devices, domains, checks. It has no behaviour.

A scenario receives a fresh machine for each execution, and adds domains, devices and agents to it.
"""

from collections.abc import Iterable, Sequence

from emu.checks.assignments import AssignmentChecks
from emu.checks.break_before_make import BreakJudge
from emu.checks.findings import Asserted, Finding, OldPath, Stuck
from emu.checks.isolation import IsolationJudge, IsolationWatch
from emu.checks.none import NoChecks
from emu.checks.promises import PromiseJudge
from emu.checks.releases import ReleaseJudge
from emu.checks.status import StatusWatch
from emu.checks.torn import TornJudge
from emu.checks.usage import UsageWatch
from emu.cpus import Cpu, Signal
from emu.devices.device import AssignmentJudge, Device, Watcher
from emu.engine import Agent, Execution, Strategy, Trace
from emu.engine.claims import Broken, Claim, Claims, Predicate, When
from emu.engine.execution import ReadRecorder
from emu.errors import ScenarioError
from emu.hypervisor.assignment import Assignment
from emu.hypervisor.domain import Domain, IommuUse
from emu.hypervisor.faults import Fault, Faults
from emu.hypervisor.hooks import HOOKS_THAT_CAN_FAIL, HookFault, Hooks
from emu.hypervisor.ops import READ_WRITE, MapFlags
from emu.hypervisor.p2m_calls import P2mCalls
from emu.hypervisor.pages import Pages
from emu.hypervisor.revisions.loader import Revision
from emu.hypervisor.tables import PageTables
from emu.iommus.counters import Counters
from emu.iommus.unit import Unit
from emu.machine.claims import Read, add_claim
from emu.machine.description import Description
from emu.machine.domains import check_domain
from emu.machine.frames import allocate, premap
from emu.machine.role import Role
from emu.machine.units import check_unit
from emu.memory import Memory
from emu.units import Dfn, Mfn, check_frame, parse_source_id

CPUS_MAX = 64
UNITS_MAX = 8


class Machine:
    """A machine before and during one execution.

    Attributes:
        hypervisor: the entry points map, unmap and flush.
        driver: the driver of the units.
        hooks: the driver's hooks, as the wrappers call them; a scenario may replace `hooks.driver`.
        assignment: attaches devices to domains, and detaches them.
        pages: the frames with their owners.
        tables: frees page tables.
        findings: the findings of the checks; complete when the execution has ended and `conclude` was called.
        claims: the scenario's claims.
        broken: the claims that do not hold, and failed assertions.
    """

    def __init__(self, description: Description) -> None:
        self.description = description
        is_counting = description.is_counting
        self.trace = Trace(sources=description.sources, keeps_events=not is_counting)
        self.recorder = ReadRecorder()
        settings, platform = description.settings, description.platform
        revision = platform.load_revision(description.revision)
        self.memory = Memory(
            is_coherent=settings.coherent, has_write_buffer=settings.write_buffer, keeps_histories=not is_counting
        )
        self.agents: list[Agent] = []
        self.units: list[Unit] = []
        self.cpus: dict[int, Cpu] = {}
        self.devices: dict[str, Device] = {}
        self.domains: dict[int, Domain] = {}
        self.scopes: dict[int, Unit] = {}
        self.faults = Faults(dict(description.faults))
        first = self.make_unit()
        self.driver = platform.make_driver(self.memory, self.devices, self.faults)
        self.driver.debug_build = description.debug_build
        self.findings: list[Finding] = []
        self.claims: list[Claim] = []
        self.broken: list[Broken] = []
        self.add_checks(revision)
        self.add_unit(first)
        ops = revision.make_ops(self.driver)
        self.hooks = Hooks(ops, self.faults, calls=self.hypervisor, fixes=self.driver.fixes)
        self.assignment = Assignment(self.driver)
        self.tables = PageTables(self.driver, self.pages)
        self.is_running = False

    def add_checks(self, revision: Revision) -> None:
        """Make the checks and what they judge: the calls of the wrappers, and the frames."""
        none = NoChecks() if self.description.is_counting else None
        findings, domains = self.findings, self.domains.values
        self.judge = PromiseJudge(self.units, findings, refuses_gaps=self.description.refuse_gaps)
        self.watch = UsageWatch(findings, domains, self.judge.promised)
        self.hypervisor = P2mCalls(revision, none or self.judge)
        releases = ReleaseJudge(self.units, findings, domains, self.judge.debts, self.judge.promised)
        isolation = IsolationJudge(self.units, findings, self.recorder)
        torn = TornJudge(self.units, findings, self.watch.names)
        breaks = BreakJudge(self.units, findings, self.memory, self.description.break_for_units)
        self.pages = Pages(self.memory, none or releases, none or isolation, () if none else (torn, breaks))
        self.status_watch = StatusWatch(findings, self.pages, releases.freed)
        isolation_watch = IsolationWatch(isolation, self.pages, domains, self.watch.names)
        assignments = AssignmentChecks(findings, domains, self.judge.promised, self.pages, self.trace)
        self.watchers: tuple[Watcher, ...] = () if none else (self.watch, isolation_watch, torn)
        self.assignment_judges: tuple[AssignmentJudge, ...] = () if none else (assignments,)

    def set_up(self, what: str, instead: str = "") -> None:
        """Refuse to set anything up while agents run: a change needs a step then.

        Raises:
            ScenarioError: naming the method called.
        """
        if self.is_running:
            raise ScenarioError(f"m.{what} is for before the first step: call it outside of the agents{instead}")

    @property
    def counters(self) -> Counters:
        """What the units were asked to do so far, and what that has cost, summed over all units."""
        return sum((unit.counters for unit in self.units), Counters())

    @property
    def unit(self) -> Unit:
        """The first unit."""
        return self.units[0]

    def make_unit(self) -> Unit:
        """Return a new unit, with the next name."""
        platform, name = self.description.platform, f"{self.description.platform.name}{len(self.units)}"
        return platform.make_unit(name, self.description.settings, self.memory, self.trace, self.recorder)

    def add_unit(self, unit: Unit) -> None:
        """Add a unit to the driver, and add the agent of the unit's engine.

        Raises:
            ScenarioError: if the unit and the machine's first unit see memory differently, or walk other tables.
        """
        check_unit(unit, self.units, self.memory)
        unit.watch_status(self.status_watch)
        unit.ledger.counts_widening = self.description.widening_faults
        self.units.append(unit)
        self.driver.add_unit(unit)
        if not unit.settings.synchronous:
            self.add_agent(Agent(unit.name, unit.run, {"iommu": unit.name}, is_daemon=True))

    def scope(self, number: int, *bdfs: str) -> None:
        """Put devices behind unit `number` (a DRHD's device scope); all others are behind unit 0.

        Raises:
            ScenarioError: if there can be no such unit, or a device has been added already.
        """
        self.set_up("scope")
        if not 0 <= number < UNITS_MAX:
            raise ScenarioError(f"there is no unit {number}: number units from 0 to {UNITS_MAX - 1}")
        sources = {bdf: parse_source_id(bdf) for bdf in bdfs}
        for bdf, source_id in sources.items():
            if source_id in self.watch.names:
                raise ScenarioError(f"device {bdf} is there already: name its unit before you use it")
        while len(self.units) <= number:
            self.add_unit(self.make_unit())
        self.scopes |= dict.fromkeys(sources.values(), self.units[number])

    def plug(self, bdf: str) -> Device:
        """Return a new device, assigned to no domain.

        Raises:
            ScenarioError: if it has been added already.
        """
        self.set_up("plug")
        source_id = parse_source_id(bdf)
        if source_id in self.watch.names:
            raise ScenarioError(f"device {bdf} is assigned already: assign each device to one domain")
        unit = self.scopes.get(source_id, self.unit)
        device = self.devices[bdf] = Device(bdf, unit, self.watchers, judges=self.assignment_judges)
        self.watch.names[device.source_id] = bdf
        device.unit.sources.append(device.source_id)
        self.driver.add_device(device)
        return device

    def domain(
        self,
        number: int,
        *,
        devices: Sequence[str] = (),
        maps_all: bool = False,
        is_hvm: bool = False,
        use: IommuUse = IommuUse.SEPARATE,
    ) -> Domain:
        """Return a new domain with empty page tables, and assign devices to it.

        Args:
            maps_all: it may map every frame, like the hardware domain without dom0-iommu=strict.
            is_hvm: its tables begin with two levels and grow on AMD-Vi, as an HVM guest's do.
            use: how the IOMMU is used for it.

        Raises:
            ScenarioError: if the domain or a device is in use already, or the IOMMU cannot be used so.
        """
        self.set_up("domain")
        check_domain(number, self.domains, devices, use)
        index, format_ = 1 + len(self.domains), self.unit.format
        parts = (self.hooks, self.pages, self.hypervisor)
        domain = Domain(number, index, format_, *parts, maps_all=maps_all, is_hvm=is_hvm, use=use)
        self.driver.add_domain(domain)
        self.domains[number] = domain
        for bdf in devices:
            device = self.plug(bdf)
            self.driver.assign(domain, device)
            device.assigned_to = domain.number
        return domain

    def allocate(self, *, page_order: int = 0, domain: Domain | None = None, at: Mfn | None = None) -> Mfn:
        """Return the first of 2^page_order frames.

        Args:
            domain: owns each of them, with one reference; without it the frames have no owner and no references.
            at: the first frame, where it matters which one it is: below 4 GiB, or from 8 GiB to 1 TiB.

        Raises:
            ScenarioError: if agents run already, or the frames from `at` on cannot be had.
        """
        self.set_up("allocate", ", or await m.pages.allocate(cpu, domain)")
        return allocate(self.pages, page_order, domain, at)

    def let_map(self, mfn: Mfn, domain: Domain, flags: MapFlags = READ_WRITE) -> None:
        """Let a domain map a frame of another one, before the first step.

        Raises:
            ScenarioError: if no domain owns the frame, or agents run already.
        """
        self.set_up("let_map", ", or await m.pages.let_map(cpu, mfn, domain)")
        self.pages.page(mfn).let_map(domain, flags)

    def premap(
        self,
        domain: Domain,
        dfn: Dfn,
        mfn: Mfn,
        *,
        page_order: int = 0,
        flags: MapFlags = READ_WRITE,
        superpage: bool = False,
        cached: bool = False,
    ) -> None:
        """Map pages before the first step, in leaves of 4 KiB.

        Args:
            superpage: map them by one leaf instead, of their order.
            cached: every device of the domain has used the pages: the IOTLB holds their translations, as large as
                their leaves are.

        Raises:
            ScenarioError: if dfn or mfn does not fit the order or the domain, agents run already, no leaf has the
                order, or another leaf maps a page already that is of another size.
        """
        self.set_up("premap")
        users = [device for device in self.devices.values() if cached and device.assigned_to == domain.number]
        premap(self.driver, domain, dfn, mfn, page_order, flags, users, leaf_order=page_order if superpage else 0)

    def cpu(self, number: int) -> Role[Cpu]:
        """Return CPU `number`; decorate with it the function that it runs.

        Raises:
            ScenarioError: if there can be no such CPU.
        """
        self.set_up("cpu")
        if not 0 <= number < CPUS_MAX:
            raise ScenarioError(f"there is no CPU {number}: number CPUs from 0 to {CPUS_MAX - 1}")
        cpu = self.cpus.setdefault(number, Cpu(number, self.memory, self.trace))
        return Role(self.add_agent, cpu, cpu.name, {"cpu": number})

    def device(self, bdf: str, *, posts: bool = False) -> Role[Device]:
        """Return a device; decorate with it the function that it runs.

        Args:
            posts: it may post writes; the root complex that commits them is another agent.

        Raises:
            ScenarioError: if it is not assigned to a domain.
        """
        self.set_up("device")
        if bdf not in self.devices:
            raise ScenarioError(f"device {bdf} belongs to no domain: name it among the devices of one")
        device = self.devices[bdf]
        if posts:
            device.may_post = True
            self.add_agent(Agent(f"{bdf} (root complex)", device.commit_posted, {"device": bdf}, is_daemon=True))
        return Role(self.add_agent, device, bdf, {"device": bdf})

    def user_of(self, finding: OldPath) -> Device:
        """Return a device that could use a finding's old path: the unit may translate its requests by that path."""
        used = (finding.tag, finding.root)
        return next(
            device
            for device in self.devices.values()
            if device.unit.name == finding.unit
            and any((tables.tag, tables.root) == used for tables in device.unit.tables_ever(device.source_id))
        )

    def signal(self, name: str) -> Signal:
        """Return a signal that one CPU sends once, and that others wait for."""
        return Signal(name)

    def fail_hook(self, hook: str, dfn: Dfn, result: int) -> None:
        """Have a hook, "map_page" or "unmap_page", fail whenever it is called for a page.

        Raises:
            ScenarioError: if there is no such hook, or the result is no error.
        """
        self.set_up("fail_hook")
        if hook not in HOOKS_THAT_CAN_FAIL or result >= 0:
            raise ScenarioError(
                f"{hook!r} cannot fail with {result}: name one of {', '.join(HOOKS_THAT_CAN_FAIL)} and -ENOMEM"
            )
        self.hooks.failing.append(HookFault(hook, check_frame("dfn", dfn), result))

    def allow_faults(self, *, allocations: int = 0, hooks: int = 0, waits: int = 0, cpu: int | None = None) -> None:
        """Let the strategy fail at least so many allocations, hooks or waits on each CPU, or on one of this number.

        Raises:
            ScenarioError: if a number is negative, or agents run already.
        """
        self.set_up("allow_faults")
        for sort, limit in {Fault.ALLOCATION: allocations, Fault.HOOK: hooks, Fault.WAIT: waits}.items():
            self.faults.allow(sort, limit, cpu)

    def always(self, text: str, predicate: Predicate, *, reads: Iterable[Read] = ()) -> None:
        """Claim that a predicate, which takes no step, is true before the first step and after each later one.

        Args:
            reads: every shared object on which it depends. Without them an exploration cannot prove the claim.

        Raises:
            ScenarioError: if the text, the predicate or `reads` is not usable, or agents run already.
        """
        self.set_up("always")
        add_claim(self.claims, text, predicate, When.ALWAYS, reads)

    def finally_(self, text: str, predicate: Predicate) -> None:
        """Claim that a predicate, which takes no step, is true when no agent can go on.

        Raises:
            ScenarioError: if the text or the predicate is not usable, or agents run already.
        """
        self.set_up("finally_")
        add_claim(self.claims, text, predicate, When.FINALLY)

    def add_agent(self, agent: Agent) -> None:
        """Add an agent.

        Raises:
            ScenarioError: if there is an agent of this name already.
        """
        if any(other.name == agent.name for other in self.agents):
            raise ScenarioError(f"{agent.name} has something to do already: give it one function")
        self.agents.append(agent)

    def execution(self, strategy: Strategy) -> Execution:
        """Return an execution of the agents that the scenario has added.

        Raises:
            ScenarioError: if no CPU or device takes a step, or the driver was given a repair that it does not have.
        """
        for fix in sorted(self.driver.fixes - self.driver.known_fixes, key=lambda fix: fix.name):
            name = self.description.platform.name
            raise ScenarioError(
                f"the driver of {name} has nothing that {fix.name} repairs: leave it out of m.driver.fixes"
            )
        if all(agent.is_daemon for agent in self.agents):
            raise ScenarioError("the scenario gave no CPU and no device anything to do: use @m.cpu(0)")
        self.is_running = True
        description = self.description
        return Execution(
            self.agents,
            strategy,
            self.trace,
            description.limits,
            self.recorder,
            is_checking=description.is_checking,
            claims=Claims(self.claims) if self.claims else None,
            broken=self.broken,
        )

    def conclude(self, execution: Execution) -> list[Finding]:
        """Return the findings of an ended execution; no deadlock where a failed assertion has ended an agent."""
        if execution.deadlock is not None and not execution.has_ended_by_assertion:
            self.findings.append(Stuck(execution.deadlock))
        self.judge.conclude()
        return self.found()

    def found(self) -> list[Finding]:
        """Return the findings so far: of the checks, and of the scenario's own claims."""
        return [*self.findings, *map(Asserted.of, self.broken)]

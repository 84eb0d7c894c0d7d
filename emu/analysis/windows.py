"""Windows: how long a replaced entry could still be used, and what flushes cost.

A window opens with the store that replaces an entry, deferred or not, at every unit and tag under which the domain's
tables translate at that time. It closes there with the completion of an invalidation that covers the page, and that
began when every walker saw the store. The window of a superpage closes when each of its pages is covered: a unit may
have cached it page by page.
"""

from collections.abc import Iterator, Mapping

import attrs

from emu.analysis.cycles import CYCLES, Clock
from emu.checks.promises import tables_of_domain
from emu.engine import Event
from emu.iommus.formats import TableFormat
from emu.iommus.paths import Tables
from emu.machine.machine import Machine
from emu.units import Dfn, address_frame, page_count

CHANGES = {"pte.write", "pte.clear", "pte.track"}
ACCESSES = {"dma.read", "dma.write"}


@attrs.frozen
class Window:
    """The time in which a replaced entry could still be used at one unit, under one tag.

    Attributes:
        table_level: the level of the entry; 1 for a leaf.
        opened: the step of the store that replaced it.
        closed: the step at which the invalidation completed; the last step if none did.
        still_open: no invalidation has closed it.
        deferred: the call that replaced the entry had put its flush off.
        cycles: the cycles from opened to closed.
        uses: accesses that devices made through the old entry while the window was open; counted for leaves.
    """

    domain: int
    dfn: int
    table_level: int
    iommu: str
    tag: int
    opened: int
    closed: int
    still_open: bool
    deferred: bool
    cycles: int
    uses: int

    @property
    def steps(self) -> int:
        """Its length in steps."""
        return self.closed - self.opened


@attrs.frozen
class Statistics:
    """The windows of an execution, and the costs of its flushes.

    Attributes:
        windows: in the order in which they opened.
        over_flushed: IOTLB entries that invalidations dropped although they were still valid.
        lock_held: steps for which mapping_locks were held, in total.
        lock_cycles: the same in cycles.
    """

    windows: list[Window]
    over_flushed: int
    lock_held: int
    lock_cycles: int


@attrs.define
class Change:
    """A store that replaced an entry: a leaf, or an entry that led to a table."""

    event: Event
    format: TableFormat
    domain: int
    dfn: Dfn
    level: int
    visible: float
    is_leaf: bool
    deferred: bool = False

    @property
    def first(self) -> Dfn:
        """The first dfn that the entry translated."""
        return self.format.base(self.dfn, self.level)

    @property
    def last(self) -> Dfn:
        """The last dfn that the entry translated."""
        return Dfn(self.first + self.format.span(self.level) - 1)

    def is_reached_by(self, tables: Tables) -> bool:
        """Whether a walk of the tables could read the replaced entry, or have cached it."""
        return tables.since < self.visible and self.event.step < tables.until


def statistics(machine: Machine, cycles: Mapping[str, int] = CYCLES) -> Statistics:
    """Return the windows of an execution that has ended, and the costs of its flushes."""
    clock, events = Clock.of(machine.trace, cycles), list(machine.trace.events())
    held = [event for event in events if event.name == "lock.release" and "mapping_lock" in event.fields["lock"]]
    return Statistics(
        list(windows(machine, events, clock)),
        sum(event.fields["over_flushed"] for event in events if event.name == "iotlb.invalidate"),
        sum(event.fields["held"] for event in held),
        sum(clock.ended[event.step] - clock.ended[event.step - event.fields["held"]] for event in held),
    )


def windows(machine: Machine, events: list[Event], clock: Clock) -> Iterator[Window]:
    """Yield the windows of an execution, in the order in which they opened."""
    tables = {number: tables_of_domain(machine.units, domain) for number, domain in machine.domains.items()}
    completions = [event for event in events if event.name == "invalidate.complete"]
    accesses = [event for event in events if event.name in ACCESSES]
    for change in changes(machine, events):
        in_reach = [(unit.name, one.tag) for unit, one in tables[change.domain] if change.is_reached_by(one)]
        for iommu, tag in dict.fromkeys(in_reach):
            closing = closed_by(completions, change, iommu, tag)
            opened, closed = change.event.step, machine.trace.step if closing is None else closing.step
            yield Window(
                change.domain,
                change.dfn,
                change.level,
                iommu,
                tag,
                opened,
                closed,
                closing is None,
                change.deferred,
                (clock.last if closing is None else clock.ended[closed]) - clock.ended[opened],
                sum(uses(access, change, iommu, tag) for access in accesses if opened < access.step <= closed),
            )


def changes(machine: Machine, events: list[Event]) -> list[Change]:
    """Return the stores that replaced a present entry."""
    found: list[Change] = []
    calls: dict[str, list[Change]] = {}
    for event in events:
        if event.name == "call.enter":
            calls[event.agent.name] = []
        elif event.name == "call.return":
            for change in calls.pop(event.agent.name, ()):
                change.deferred = event.fields.get("deferred", False)
        elif event.name in CHANGES:
            level, format_ = event.fields["table_level"], machine.domains[event.fields["domain"]].format
            old, new = format_.decode(event.fields["old"], level), format_.decode(event.fields["value"], level)
            if old is None or old == new or (new is not None and not new.is_leaf and new.address == old.address):
                continue
            visible = machine.memory.reached(event.fields["address"], event.step)
            change = Change(event, format_, event.fields["domain"], event.fields["dfn"], level, visible, old.is_leaf)
            found.append(change)
            calls.setdefault(event.agent.name, []).append(change)
    return found


def closed_by(completions: list[Event], change: Change, iommu: str, tag: int) -> Event | None:
    """Return the completion that closes a window; None if none does."""
    left = [(change.first, change.last)]
    for one in completions:
        if closes(one, change, iommu, tag):
            left = list(uncovered(one, left))
            if not left or not change.is_leaf:
                return one
    return None


def uncovered(completion: Event, ranges: list[tuple[Dfn, Dfn]]) -> Iterator[tuple[Dfn, Dfn]]:
    """Yield what an `invalidate.complete` event leaves of ranges first..last of pages."""
    keys = completion.fields
    if "dfn" in keys:
        before, after = Dfn(keys["dfn"] - 1), Dfn(keys["dfn"] + page_count(keys["page_order"]))
        for first, last in ranges:
            if first <= before:
                yield first, min(last, before)
            if after <= last:
                yield max(first, after), last


def closes(completion: Event, change: Change, iommu: str, tag: int) -> bool:
    """Whether a completed invalidation drops a replaced entry: of a superpage, a page at least."""
    if completion.fields["began"] < change.visible or not (change.is_leaf or drops_tables(completion)):
        return False
    return covers(completion, iommu, tag, change.first, change.last)


def covers(completion: Event, iommu: str, tag: int, first: int, last: int) -> bool:
    """Whether an `invalidate.complete` event covers one of the pages first..last of a tag at a unit."""
    keys = completion.fields
    if keys["iommu"] != iommu or keys["tag"] not in {"all", tag}:
        return False
    return "dfn" not in keys or (keys["dfn"] <= last and first < keys["dfn"] + (1 << keys["page_order"]))


def drops_tables(completion: Event) -> bool:
    """Whether an `invalidate.complete` event covers cached table entries, too."""
    return not completion.fields.get("leaf_only", False)


def uses(access: Event, change: Change, iommu: str, tag: int) -> bool:
    """Whether an access went through a replaced leaf."""
    leaf, keys = change.format.decode(change.event.fields["old"], change.level), access.fields
    if leaf is None or not leaf.is_leaf or (keys["iommu"], keys["tag"]) != (iommu, tag):
        return False
    page: int = keys["dfn"] - change.first
    return page in range(change.format.span(change.level)) and bool(keys["mfn"] == address_frame(leaf.address) + page)

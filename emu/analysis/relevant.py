"""The steps that matter to a finding: its own, and of those that happen before them the ones about its subject.

A rank says how much a step matters, 0 the most. Who has room for a few steps only drops the greatest ranks first.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from math import inf
from typing import Any

import attrs

from emu.checks.findings import Asserted, Finding, Stuck
from emu.engine import Agent, Event, Trace
from emu.engine.happens_before import HappensBefore
from emu.hypervisor.ops import iommu_dont_flush_iotlb
from emu.units import page_count

RANKS: Mapping[str, int] = {
    **dict.fromkeys(("pte.write", "pte.clear", "call.return", "invalidate.complete", "queue.post", "flush.skip"), 1),
    **dict.fromkeys(("dma.read", "dma.write", "dma.fault", "page.free", "page.allocate", "page.withdraw"), 1),
    **dict.fromkeys(("device.hand_over", "context.write", "device_entry.write", "device_entry.complete"), 1),
    **dict.fromkeys(("stream.write", "cpu_tlb.flush"), 1),
    **dict.fromkeys(("fault.inject", "domain.crash", "hypercall.settle", "queue.drop", "queue.error"), 1),
    **dict.fromkeys(("call.enter", "percpu.write", "percpu.read", "flush.done", "iotlb.invalidate"), 2),
    **dict.fromkeys(("context.invalidate", "device_entry.invalidate", "lock.acquire", "console.print"), 2),
    **dict.fromkeys(("table.take", "page.let_map", "softirq.run", "p2m.write", "queue.status"), 2),
    **dict.fromkeys(("queue.complete", "queue.active", "pte.track"), 3),
    **dict.fromkeys(("context.read", "device_entry.read"), 2),
    **dict.fromkeys(("lock.contend", "lock.release", "pte.read", "hypercall.exit", "line.write_back"), 3),
    **dict.fromkeys(("buffer.drain", "page.get", "page.put", "variable.write", "memory.store"), 3),
    **dict.fromkeys(("walk.read", "iotlb.fill", "context.fill", "device_entry.fill", "p2m.read", "list.move"), 4),
    **dict.fromkeys(("dma.program", "dma.post", "signal.send", "wait", "walk.pass_through", "variable.read"), 4),
    **dict.fromkeys(("stream.match", "stream.fault"), 5),
    **dict.fromkeys(("hypercall.enter", "iotlb.hit", "iotlb.miss", "invalidate.begin", "memory.load"), 5),
}
"""How much a step matters by its event, if it is about the subject; a step with another event is left out."""

ELSEWHERE = 3
"""How much less an event matters that is about another page, frame or device."""

OF_SECTION = 3
"""The greatest rank of an event because of which the section of a lock matters."""

RANK_MAX = 5
"""The greatest rank of a step that matters."""

STORES = frozenset({"pte.write", "pte.clear"})
"""Stores to page tables: those above the leaf matter less, and so do those of a half that does not make it present."""

CACHING = ("iotlb.miss", "iotlb.fill", "walk.", "dma.program", "dma.post")
"""The beginnings of events of devices that do not matter before the first own step of a finding."""

USES = ("dma.read", "dma.write", "dma.fault", "iotlb.hit")
"""Events of devices that matter from the step at which a finding was judged to the use that it tells: no others."""

OF_CLAIMS = ("variable.", "memory.", "signal.", "wait")
"""The beginnings of events that matter most to claims of a scenario, about which nothing else is known."""

OF_LEAVES = frozenset({"pte.read", "walk.read"})
"""Reads that matter only where they read a leaf of 4 KiB: above it every walk reads the same."""


@attrs.frozen
class Subject:
    """What a finding is about.

    Attributes:
        domain, pages: the domain, and its pages; no pages where it is about no page, or about all.
        frames, devices: frames and devices.
        locks: the locks for which somebody had to wait.
        since, judged: the finding's first own step, and the step at which it was judged.
        used: the step at which a device has used what is stale; infinite if none has.
        is_open: it is a claim of a scenario or a deadlock, which may be about any variable, word or signal.
    """

    domain: int | None
    pages: frozenset[int]
    frames: frozenset[int]
    devices: frozenset[str]
    locks: frozenset[str]
    since: int
    judged: int
    used: float
    is_open: bool

    @classmethod
    def of(cls, finding: Finding, trace: Trace, marked: Iterable[int]) -> "Subject":
        """Return the subject of a finding with these steps of its own."""

        def named(*names: str) -> frozenset[Any]:
            return frozenset(one for name in names if (one := getattr(finding, name, None)) is not None)

        use = getattr(finding, "use", None)
        contended = {event.fields["lock"] for event in trace.events() if event.name == "lock.contend"}
        if isinstance(finding, Stuck):
            waited = (one.waits_for for one in finding.deadlock.waiters)
            contended |= {name.removeprefix("the lock ") for name in waited}
        return cls(
            getattr(finding, "page_domain", None) or getattr(finding, "domain", None),
            named("page") if hasattr(finding, "page_count") else named("dfn"),
            named("frame", "table"),
            named("device") | ({use.device} if use else set()),
            frozenset(contended),
            min(marked, default=0),
            getattr(finding, "step", 0),
            use.step if use else inf,
            isinstance(finding, Asserted | Stuck),
        )

    def has(self, keys: Mapping[str, Any]) -> bool:
        """Whether an event with these keys is about the subject; so is one that names no page, frame or device."""
        if "bdf" in keys:
            return not self.devices or keys["bdf"] in self.devices
        if "dfn" in keys and self.pages:
            first, domain = keys["dfn"], keys.get("domain", self.domain)
            last = first + (keys.get("page_count") or page_count(keys.get("page_order", 0))) - 1
            return domain == self.domain and any(first <= page <= last for page in self.pages)
        return "mfn" not in keys or not self.frames or keys["mfn"] in self.frames

    def is_too_early_or_late(self, event: Event) -> bool:
        """Whether an event of a device does not matter because of its step."""
        if event.name in USES:
            return not self.judged <= event.step <= self.used
        return event.step < self.since and is_caching(event)


@attrs.frozen
class RelevantStep:
    """A step that matters, with its events that do; step 0 is what an agent did before its first step.

    Attributes:
        is_marked: it is one of the finding's own.
    """

    step: int
    agent: Agent
    events: tuple[Event, ...]
    rank: int
    is_marked: bool


@attrs.frozen(slots=False)
class Interleaving:
    """An execution that has ended, as all its findings see it."""

    trace: Trace

    @cached_property
    def events(self) -> list[Event]:
        """The events, in order."""
        return list(self.trace.events())

    @cached_property
    def order(self) -> HappensBefore:
        """Which steps happen before which."""
        return HappensBefore.of(self.trace)

    @cached_property
    def asked(self) -> dict[tuple[str, int], Mapping[str, Any]]:
        """The keys of each descriptor that was fetched, by unit and slot."""
        fetched = (event.fields for event in self.events if event.name == "queue.fetch")
        return {(keys["iommu"], keys["slot"]): keys for keys in fetched}

    @cached_property
    def sections(self) -> dict[int, tuple[int, float]]:
        """For each step about a lock, the first and the last step of its section; without end if there is no last."""
        found: dict[int, tuple[int, float]] = {}
        begun: dict[tuple[str, str], list[int]] = {}
        for event in self.events:
            if event.name.startswith("lock."):
                key = (event.agent.name, event.fields["lock"])
                steps = begun.setdefault(key, [])
                steps.append(event.step)
                found.update(dict.fromkeys(steps, (steps[0], event.step if event.name == "lock.release" else inf)))
                if event.name == "lock.release":
                    del begun[key]
        return found

    def before(self, marked: Iterable[int]) -> set[int]:
        """Return the marked steps, and all that happen before one of them.

        Without the sources of a trace nobody knows what its steps have touched, and all earlier steps count.
        """
        steps = {step for step in marked if 0 < step <= self.trace.step}
        if not self.trace.sources:
            return set(range(1, max(steps, default=0) + 1))
        return steps.union(*(self.order.past(step) for step in steps))


Ranked = list[tuple[int, Event]]
"""Events of a step with their ranks."""


def relevant(finding: Finding, shown: Interleaving, marked: Collection[int]) -> list[RelevantStep]:
    """Return the steps that matter to a finding, in order.

    Args:
        marked: the finding's own steps.
    """
    subject, before = Subject.of(finding, shown.trace, marked), shown.before(marked)
    agents = {event.agent.name for event in shown.events if event.step in before}
    ranked: dict[tuple[int, Agent], Ranked] = {}
    for event in shown.events:
        step, agent = event.step, event.agent
        if step in before if step else agent.name in agents:
            of_step = ranked.setdefault((step, agent), [])
            rank = rank_of(event, subject, shown.asked)
            if rank is not None and rank <= RANK_MAX:
                of_step.append((rank, event))
            elif step in marked and not event.is_note:
                of_step.append((RANK_MAX, event))
    drop_idle_sections(ranked, shown, marked)
    steps = (step_of(step, agent, of_step, is_marked=step in marked) for (step, agent), of_step in ranked.items())
    return [step for step in steps if step is not None]


def drop_idle_sections(ranked: dict[tuple[int, Agent], Ranked], shown: Interleaving, marked: Collection[int]) -> None:
    """Drop the events about locks in whose sections nothing else matters."""
    busy: dict[Agent, list[int]] = {}
    for (step, agent), of_step in ranked.items():
        if any(rank <= OF_SECTION and "lock" not in event.fields for rank, event in of_step):
            busy.setdefault(agent, []).append(step)
    for (step, agent), of_step in ranked.items():
        if step in shown.sections and step not in marked:
            first, last = shown.sections[step]
            if not any(first <= one <= last for one in busy.get(agent, ())):
                of_step[:] = [(rank, event) for rank, event in of_step if "lock" not in event.fields]


def step_of(step: int, agent: Agent, ranked: Ranked, *, is_marked: bool) -> RelevantStep | None:
    """Return a step with its events that matter; None if none does."""
    if not ranked:
        return None
    rank = min(rank for rank, _ in ranked)
    events = tuple(event for one, event in ranked if one <= rank + 1)
    return RelevantStep(step, agent, events, 0 if is_marked else rank, is_marked)


def rank_of(event: Event, subject: Subject, asked: Mapping[tuple[str, int], Mapping[str, Any]]) -> int | None:
    """Return how much an event matters; None if not at all.

    Args:
        asked: the keys of each descriptor that was fetched, by unit and slot.
    """
    rank, keys = RANKS.get(event.name), event.fields
    if rank is None or (event.name in OF_LEAVES and keys.get("table_level") != 1):
        return None
    if "lock" in keys:
        return rank if keys["lock"] in subject.locks else None
    if event.name.startswith("percpu."):
        return rank if keys["variable"] == iommu_dont_flush_iotlb.name and is_telling(event) else None
    if event.name in STORES and (keys["table_level"] > 1 or keys.get("half") == "high"):
        rank += 2
    if event.name == "queue.post":
        keys = asked.get((keys["iommu"], keys["slot"]), {})
        if keys.get("descriptor") == "wait":
            return rank + ELSEWHERE
    if subject.is_too_early_or_late(event):
        return None
    is_internal = event.name.startswith(OF_CLAIMS) and not subject.is_open
    return rank if subject.has(keys) and not is_internal else rank + ELSEWHERE


def is_caching(event: Event) -> bool:
    """Whether an event leads to an access of a device, or to a cached translation."""
    return event.name.startswith(CACHING)


def is_telling(event: Event) -> bool:
    """Whether an access to the flag tells something: a write does, and a read that finds it set."""
    return event.name == "percpu.write" or bool(event.fields["value"])


def most_relevant(steps: Iterable[RelevantStep]) -> Iterator[RelevantStep]:
    """Yield steps by rank, and of a rank those first that are nearest to a marked step."""
    listed = list(steps)
    marked = [one.step for one in listed if one.is_marked]
    yield from sorted(
        listed, key=lambda one: (one.rank, min((abs(one.step - step) for step in marked), default=0), one.step)
    )

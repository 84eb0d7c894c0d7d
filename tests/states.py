"""Every state that a program can reach: an enumeration that asks neither the search nor what steps declare.

It takes every step that is enabled in each state. Two prefixes are one state if each agent was told the same on its
way, the checks have found the same, and the machine has come to hold the same in the same order: the values of words,
what the units cache, have in flight and have invalidated, who owns a frame, and what is promised and owed.
"""

from collections.abc import Iterator

import attrs

from emu.checks.promises import Promise
from emu.checks.signatures import Signature
from emu.iommus.unit import Unit
from emu.machine.machine import Machine
from emu.scenarios.scenario import BoundScenario
from emu.units import Dfn
from tests.classes import Prefix, cached_tables, ends

STATES_MAX = 500

State = tuple[tuple[int, ...], frozenset[Signature], int]


@attrs.define
class States:
    """Every state of a scenario.

    Attributes:
        signatures: of all that was found.
    """

    known: set[State] = attrs.field(factory=set)
    signatures: set[Signature] = attrs.field(factory=set)

    @classmethod
    def of(cls, bound: BoundScenario) -> "States | None":
        """Return every state; None if there are too many."""
        found = cls()
        for prefix in ends(bound, found.enter):
            found.signatures |= prefix.conclude()
            if len(found.known) > STATES_MAX:
                return None
        return found

    def enter(self, prefix: Prefix) -> bool:
        """Enter a state; return whether it is new."""
        holds = hash(str((prefix.state(), list(in_order(prefix.machine)))))
        before = len(self.known)
        self.known.add((prefix.past.seen, prefix.verdict(), holds))
        return len(self.known) > before


def in_order(machine: Machine) -> Iterator[object]:
    """Yield what a machine has come to hold, with steps as ranks: which came first, and not how long before."""
    rank = {step: number for number, step in enumerate(sorted({0, *steps_of(machine)}))}
    for word, history in sorted(machine.memory.versions.items()):
        yield word, [(rank[one.stored], rank[one.visible], one.value) for one in history]
    yield sorted(machine.memory.dirty), sorted(machine.memory.buffered)
    for unit in machine.units:
        yield sorted((what, rank[step]) for what, step in completed(unit))
        yield [[rank[read.step] for read in one.reads] for one in cached_tables(unit)]
    yield sorted((page, one.agent, one.call, rank[one.changed]) for page, one in promises(machine))
    yield sorted((name, call, dfn, rank[step]) for name, call, dfn, step in debts(machine))
    for mfn, page in sorted(machine.pages.frames.items()):
        yield mfn, page.owner and page.owner.number, page.references, page.generation
    yield [page.mfn for page in machine.pages.free]
    yield [rank[step] for step in cpu_flushes(machine)]


def steps_of(machine: Machine) -> Iterator[float]:
    """Yield the steps at which it came to hold that."""
    for history in machine.memory.versions.values():
        for one in history:
            yield from (one.stored, one.visible)
    yield from (step for unit in machine.units for _, step in completed(unit))
    yield from (read.step for unit in machine.units for one in cached_tables(unit) for read in one.reads)
    yield from (one.changed for _, one in promises(machine))
    yield from (step for *_, step in debts(machine))
    yield from cpu_flushes(machine)


def cpu_flushes(machine: Machine) -> Iterator[int]:
    """Yield for each domain by whose tables CPUs translate the step at which their TLBs were last flushed."""
    return (one.cpu_tlb.flushed for one in machine.domains.values() if one.cpu_tlb is not None)


def completed(unit: Unit) -> Iterator[tuple[str, int]]:
    """Yield the invalidations that a unit has completed, and the step at which each began."""
    done = unit.ledger.completed
    yield "all", done.all_since
    yield from ((str(what), step) for what, step in (*done.tag_since.items(), *done.range_since.items()))
    yield from ((f"table entries {tag} {covered}", step) for tag, all_ in done.drops.items() for step, *covered in all_)


def promises(machine: Machine) -> Iterator[tuple[tuple[int, Dfn], Promise]]:
    """Yield each promise that was made, with its page."""
    return ((page, one) for page, made in machine.judge.promised.items() for one in made)


def debts(machine: Machine) -> Iterator[tuple[str, str, Dfn, int]]:
    """Yield each page that a deferred call has changed, and the step at which it did."""
    for debt in machine.judge.debts:
        yield from ((debt.cpu.name, debt.call, dfn, update.step) for dfn, update in debt.updates.items())

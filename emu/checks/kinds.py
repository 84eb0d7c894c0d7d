"""The kinds of findings, and the facts by which a finding is recognised."""

from enum import Enum
from typing import Self

from emu.units import Dfn, Mfn

Facts = tuple[str, int | None, Dfn | None, Mfn | None, str | None, str | None]
"""A signature without its kind: check, domain, dfn, frame, unit, and the agent that owed (signatures.py)."""


class FindingKind(Enum):
    """The kind of a finding; `emu/reports/glossary.py` explains each.

    Attributes:
        meaning: what has happened.
    """

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        """Make a kind of its name and its meaning; by the name alone, `FindingKind("stale")` finds it."""
        kind = object.__new__(cls)
        kind._value_, kind.meaning = value, meaning
        return kind

    STALE = "stale", "a translation may still be used that a call promised to be gone"
    STALE_FAULT = "stale-fault", "an access may still be refused that a call promised to be possible"
    OWED = "owed", "a deferred flush was not made when the hypercall ended"
    RELEASED = "released", "a frame was freed or given away, and an old path may still lead to it"
    LOST_ERROR = "lost-error", "a failure was reported as success"
    NOT_ROLLED_BACK = "not-rolled-back", "a map reported a failure and left some of its pages mapped"
    WRONG_RESULT = "wrong-result", "a call reported success, nothing failed, and the table is not as asked"
    BEYOND_RANGE = "beyond-range", "a store changed a page that its call was not for"
    GAP = "gap", "an entry was cleared and then set; with `refuse_gaps=true` only"
    DEADLOCK = "deadlock", "nobody can go on"
    LATE = "late-access", "an access came after its translation was to be gone: it was not drained"
    FREED_TABLE = "freed-table", "a CPU stored an entry into a page table that its domain had lost"
    TORN = "torn-entry", "between the two stores of an entry it led where neither should"
    NO_BREAK = "no-break", "an entry took the place of another one that a walker could still use"
    OVERRUN = "overrun", "more references were stored than an array has room for"
    FOREIGN = "foreign-access", "what one domain's driver had programmed was done to another's memory"
    NOT_ISOLATED = "not-isolated", "a domain's devices may reach a frame that its owner does not let it map"
    ASSERTION = "assertion", "a claim of the scenario's own does not hold"
    ILLEGAL = "illegal-translation", "hardware used a translation that the ledger does not allow: a bug of emu"

"""The kinds of findings, and the facts by which a finding is recognised."""

from enum import Enum

from emu.units import Dfn, Mfn

Facts = tuple[str, int | None, Dfn | None, Mfn | None, str | None, str | None]
"""A signature without its kind: check, domain, dfn, frame, unit, and the agent that owed (signatures.py)."""


class FindingKind(Enum):
    """The kind of a finding."""

    STALE = "stale"  # a translation that a call promised to be gone may still be used
    STALE_FAULT = "stale-fault"  # an access that a call promised to be possible may still be refused
    OWED = "owed"  # a deferred flush was not paid when the hypercall ended
    RELEASED = "released"  # a frame was freed or given away while an old translation to it may still be used
    LOST_ERROR = "lost-error"  # a failure was reported as success
    NOT_ROLLED_BACK = "not-rolled-back"  # a map reported a failure and left some of its pages mapped
    WRONG_RESULT = "wrong-result"  # a success was reported without any failure, and the table is not what it says
    BEYOND_RANGE = "beyond-range"  # a store changed the mapping of a page outside its call's range
    GAP = "gap"  # an entry was cleared and then set while devices might use the page; only with refuse_gaps
    DEADLOCK = "deadlock"  # no agent can go on
    LATE = "late-access"  # an access was made after a promise that its translation is gone: it was not drained
    FREED_TABLE = "freed-table"  # a CPU stored an entry into the frame of a page table that its domain had lost
    TORN = "torn-entry"  # between two stores an entry led to a frame to which neither the old nor the new one leads
    OVERRUN = "overrun"  # more references were stored than an array has room for
    FOREIGN = "foreign-access"  # an access that one domain's driver had programmed was made to another domain's memory
    NOT_ISOLATED = "not-isolated"  # a domain's devices may reach a frame that its owner does not let the domain map so
    ASSERTION = "assertion"  # a claim of the scenario's own does not hold
    ILLEGAL = "illegal-translation"  # hardware used a translation that the ledger does not allow: a bug of emu

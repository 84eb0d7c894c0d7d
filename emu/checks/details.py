"""What findings say besides their kind: the evidence, what became of a debt, what somebody did."""

from enum import Enum

import attrs


class Payment(Enum):
    """What became of a debt by the end of the hypercall, or after it."""

    NEVER = "never"  # nobody has flushed
    LATE = "late"  # a flush removed the translation after the hypercall
    WRONG_RANGE = "wrong-range"  # whoever owed it flushed other pages of the domain
    WRONG_DOMAIN = "wrong-domain"  # whoever owed it flushed another domain
    FAILED = "failed"  # whoever owed it flushed the page, and was told that this had failed
    INEFFECTIVE = "ineffective"  # whoever owed it flushed the page, and the translation may be used all the same
    CONTINUED = "continued"  # the hypercall ended with a continuation, before its last pass could pay


class Held(Enum):
    """Where the store that replaced an entry waits, so that walkers need not see it yet."""

    CACHE = "cache"  # of the CPUs: its line was not written back
    BUFFER = "buffer"  # of the chipset: it was not drained


@attrs.frozen
class Arrival:
    """When the store that replaced an entry reached memory.

    Attributes:
        step: from which every walker sees the store; None if one still need not.
        held: where the store waits then.
    """

    step: int | None
    held: Held | None = None


class Evidence(Enum):
    """How it is known that a device may use what it should not."""

    POSSIBLE = "possible"  # hardware may do it when that is judged
    OBSERVED = "observed"  # a device used it afterwards


@attrs.frozen
class Use:
    """A device's use of a translation."""

    device: str
    step: int


class Act(Enum):
    """What somebody did by which a frame is not isolated."""

    MAP = "map"  # a CPU stored a leaf
    WITHDRAW = "withdraw"  # a CPU let a domain map the frame no more, to which a unit may still translate
    ACCESS = "access"  # a device read or wrote the frame

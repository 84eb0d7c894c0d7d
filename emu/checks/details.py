"""Parts of findings: the evidence, the payment of a debt, the act against a frame."""

from enum import Enum

import attrs

from emu.units import Dfn


class Payment(Enum):
    """The fate of a debt by the end of the hypercall, or after it."""

    NEVER = "never"  # the CPU that owed it has not flushed
    LATE = "late"  # a flush removed the translation after the hypercall
    WRONG_RANGE = "wrong-range"  # the CPU that owed it flushed other pages of the domain
    WRONG_DOMAIN = "wrong-domain"  # the CPU that owed it flushed another domain
    FAILED = "failed"  # the CPU that owed it flushed the page, and the flush failed
    INEFFECTIVE = "ineffective"  # the CPU that owed it flushed the page, and the translation may still be used
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
    """The evidence that a device may use a translation that it should not."""

    POSSIBLE = "possible"  # hardware may use it at the step of the judgement
    OBSERVED = "observed"  # a device used it afterwards


@attrs.frozen
class Use:
    """A device's use of a translation."""

    device: str
    step: int


class Act(Enum):
    """The act by which a frame is not isolated."""

    MAP = "map"  # a CPU stored a leaf
    ATTACH = "attach"  # a device was given to the domain, and finds what is cached for another one
    WITHDRAW = "withdraw"  # a CPU withdrew a domain's grant, and a unit may still translate to the frame
    ACCESS = "access"  # a device read or wrote the frame


@attrs.frozen
class Revived:
    """A promise about a page that held while its domain had no device, and holds no more.

    Attributes:
        agent, call, step: the promise's CPU, call and step.
    """

    dfn: Dfn
    agent: str
    call: str
    step: int

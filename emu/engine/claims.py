"""Claims: a user's statements about a program, and where they do not hold. Both are data of an execution.

An `assert` in an agent's own code is a claim about values that the agent has read. A failed assertion ends the agent,
as a return does, and the other agents go on.

A `Claim` is a predicate over shared objects. It is evaluated before the first step, and after each step once the step's
agent has announced its next operation; the evaluation takes no step. Only an operation that may change an object which
the claim reads can break it. Such an operation counts as a read of all these objects, so an exploration takes the
operations that may break a claim in every order. This depends on the declaration alone, not on whether the claim still
holds. A claim that declares no object may be broken by any step, and no reduction can know which interleavings matter.

A claim about the end is evaluated when no agent can go on. All interleavings of a trace end in one state, so such a
claim declares nothing.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import attrs

from emu.engine.accesses import Access
from emu.engine.failures import NoOperationError
from emu.engine.sources import is_interrupt, raised_at
from emu.engine.trace import Trace
from emu.errors import ModelError, said_by

Predicate = Callable[[], object]
"""Takes no step, changes nothing, and returns something true as long as the claim holds."""


class When(Enum):
    """When a claim has to hold."""

    ASSERTED = "assert"  # when an agent executes the assertion
    ALWAYS = "always"
    FINALLY = "finally"


@attrs.frozen
class Broken:
    """A claim that does not hold.

    Attributes:
        claim: its text.
        agent: the agent that asserted it, or that took the last step before the evaluation; None before the first step.
        step: the step after which it did not hold.
        source: the line of an assertion.
    """

    claim: str
    when: When
    agent: str | None
    step: int
    source: str | None = None


@attrs.frozen
class Claim:
    """A predicate that has to hold always, or at the end.

    Attributes:
        reads: every shared object on which it depends; empty if that is not known.
    """

    text: str
    predicate: Predicate
    when: When = When.ALWAYS
    reads: tuple[Access, ...] = ()

    @property
    def is_undeclared(self) -> bool:
        """Whether any step may break the claim, because it declares no object."""
        return self.when is When.ALWAYS and not self.reads

    def may_be_broken_by(self, accesses: Iterable[Access]) -> bool:
        """Whether an operation with these accesses may change an object that the claim reads."""
        return any(access.conflicts(read) for access in accesses for read in self.reads)

    def holds(self) -> bool:
        """Evaluate the predicate.

        Raises:
            ModelError: if it raises, runs on and on, or returns something to be awaited.
        """
        try:
            answer = self.predicate()
            is_awaitable = inspect.isawaitable(answer)
            if inspect.iscoroutine(answer):
                answer.close()
            if not is_awaitable:
                return bool(answer)
        except NoOperationError as error:
            raise ModelError(
                f"the claim {self.text!r}, at {raised_at(error)}, runs on and on: let it return"
            ) from error
        except BaseException as error:
            if is_interrupt(error):
                raise
            raise ModelError(
                f"the claim {self.text!r}, at {raised_at(error)}, raised {said_by(error)}; let it return whether it "
                "holds"
            ) from error
        raise async_claim(self.text, self.predicate)


def async_claim(text: str, predicate: Predicate) -> ModelError:
    """Return the error for a claim that would take steps."""
    code = getattr(predicate, "__code__", None)
    where = f", at {code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}," if code else ""
    return ModelError(
        f"the claim {text!r}{where} has to be awaited, and a claim takes no step: write a plain def that looks without "
        "one, by m.memory.peek(address), cpu.peek(variable) or variable.value"
    )


class Claims:
    """The claims of one execution.

    Attributes:
        all: every claim.
        unbroken: the claims that have held at each evaluation so far.
    """

    def __init__(self, claims: Sequence[Claim]) -> None:
        self.all = claims
        self.unbroken = list(claims)
        self.has_begun = False

    def may_be_broken_by(self, accesses: Sequence[Access]) -> bool:
        """Whether an operation with these accesses may change an object that some claim reads."""
        return any(claim.may_be_broken_by(accesses) for claim in self.all)

    def extend(self, accesses: Iterable[Access]) -> tuple[Access, ...]:
        """Return an operation's accesses, and the reads of the claims that it may break."""
        own = tuple(accesses)
        reads = (read for claim in self.all if claim.may_be_broken_by(own) for read in claim.reads)
        return tuple(dict.fromkeys((*own, *reads)))

    def begin(self) -> list[Broken]:
        """Evaluate the claims before the first step; a second call does nothing."""
        if self.has_begun:
            return []
        self.has_begun = True
        return self.ask(When.ALWAYS, None, 0)

    def ask(self, when: When, agent: str | None, step: int, declared: Sequence[Access] | None = None) -> list[Broken]:
        """Return the claims that do not hold after an agent's step, each claim once in an execution.

        Args:
            declared: the accesses that the step might make; None where any claim may have been broken.

        Raises:
            ModelError: if a predicate fails, or depends on an object that its claim does not declare.
        """
        broken = [claim for claim in self.unbroken if claim.when is when and not claim.holds()]
        if broken:
            self.unbroken = [claim for claim in self.unbroken if claim not in broken]
        for claim in broken:
            if declared is not None and not (claim.is_undeclared or claim.may_be_broken_by(declared)):
                raise ModelError(
                    f"the claim {claim.text!r} does not hold after step {step} of {agent}, which changes none of the "
                    "objects that the claim declares: add every object on which it depends to its reads=[...]"
                )
        return [Broken(claim.text, when, agent, step) for claim in broken]

    def conclude(self, trace: Trace) -> list[Broken]:
        """Return the claims about the end that do not hold there."""
        return self.ask(When.FINALLY, trace.agent_of(trace.step).name if trace.step else None, trace.step)

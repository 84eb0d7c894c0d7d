"""What a scenario declares: a kind of finding that some execution shows, or that none shows any."""

from collections.abc import Callable

import attrs

from emu.checks.findings import Evidence, Finding, FindingKind, OldPath


@attrs.frozen
class Expectation:
    """What a scenario declares: a kind of finding that some execution shows, or that none shows any.

    Attributes:
        evidence: the least evidence for a stale translation that counts as having shown it.
        also: kinds of findings that may come with it.
    """

    kind: FindingKind | None
    evidence: Evidence = Evidence.POSSIBLE
    also: frozenset[FindingKind] = frozenset()

    def with_also(self, *others: "Expectation") -> "Expectation":
        """Return the expectation of a finding beside which others may show."""
        return attrs.evolve(self, also=frozenset(other.kind for other in others if other.kind))

    def allows(self, kind: FindingKind) -> bool:
        """Whether a finding of a kind does not contradict it."""
        return kind is self.kind or kind in self.also

    def is_shown_by(self, finding: Finding) -> bool:
        """Whether a finding is the declared one."""
        if finding.kind is not self.kind:
            return False
        wants_use = self.evidence is Evidence.OBSERVED
        return not (wants_use and isinstance(finding, OldPath) and finding.use is None)

    def __str__(self) -> str:
        if self.kind is None:
            return "clean"
        return f"{self.kind.value}, observed" if self.evidence is Evidence.OBSERVED else self.kind.value


CLEAN = Expectation(None)
STALE = Expectation(FindingKind.STALE)
STALE_OBSERVED = Expectation(FindingKind.STALE, Evidence.OBSERVED)
STALE_FAULT = Expectation(FindingKind.STALE_FAULT)
OWED = Expectation(FindingKind.OWED)
RELEASED = Expectation(FindingKind.RELEASED)
LOST_ERROR = Expectation(FindingKind.LOST_ERROR)
NOT_ROLLED_BACK = Expectation(FindingKind.NOT_ROLLED_BACK)
WRONG_RESULT = Expectation(FindingKind.WRONG_RESULT)
FREED_TABLE = Expectation(FindingKind.FREED_TABLE)
LATE = Expectation(FindingKind.LATE)
OVERRUN = Expectation(FindingKind.OVERRUN)
FOREIGN = Expectation(FindingKind.FOREIGN)
DEADLOCK = Expectation(FindingKind.DEADLOCK)

Expect = Callable[..., Expectation]

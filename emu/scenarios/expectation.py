"""What a scenario declares: a kind of finding that some execution shows, or that none shows any."""

from collections.abc import Callable

import attrs

from emu.checks.details import Evidence
from emu.checks.findings import Finding, FindingKind, OldPath


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
        return not wants_use or (isinstance(finding, OldPath) and finding.use is not None)

    def __str__(self) -> str:
        if self.kind is None:
            return "clean"
        return f"{self.kind.value}, observed" if self.evidence is Evidence.OBSERVED else self.kind.value


CLEAN = Expectation(None)
STALE_OBSERVED = Expectation(FindingKind.STALE, Evidence.OBSERVED)

Expect = Callable[..., Expectation]


def __getattr__(name: str) -> Expectation:
    """Return the expectation of a kind of finding by the name of the kind: `STALE`, `OWED`, `LOST_ERROR` and so on.

    Raises:
        AttributeError: if there is no such kind, or nobody can mean to show it.
    """
    if name not in FindingKind.__members__ or name == FindingKind.ILLEGAL.name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return Expectation(FindingKind[name])

"""Expectations: the kind of finding that some execution shows, or that no execution has a finding."""

from collections.abc import Callable

import attrs

from emu.checks.details import Evidence
from emu.checks.findings import Finding, FindingKind, OldPath
from emu.errors import ScenarioError


@attrs.frozen
class Expectation:
    """The kind of finding that some execution shows; None for the claim that no execution has a finding.

    Attributes:
        evidence: the least evidence with which a stale translation counts as shown.
        also: kinds of findings that may come with it.
        unclaimed: the reason why nothing is claimed, so that findings are only told; empty where something is claimed.
    """

    kind: FindingKind | None
    evidence: Evidence = Evidence.POSSIBLE
    also: frozenset[FindingKind] = frozenset()
    unclaimed: str = ""

    def with_also(self, *others: "Expectation") -> "Expectation":
        """Return the expectation of this kind of finding, beside which the kinds of others may come."""
        return attrs.evolve(self, also=frozenset(other.kind for other in others if other.kind))

    def allows(self, kind: FindingKind) -> bool:
        """Whether the expectation allows findings of a kind."""
        return kind is self.kind or kind in self.also

    def is_shown_by(self, finding: Finding) -> bool:
        """Whether a finding is the expected one."""
        if finding.kind is not self.kind:
            return False
        wants_use = self.evidence is Evidence.OBSERVED
        return not wants_use or (isinstance(finding, OldPath) and finding.use is not None)

    def __str__(self) -> str:
        if self.unclaimed:
            return "nothing"
        if self.kind is None:
            return "clean"
        return f"{self.kind.value}, observed" if self.evidence is Evidence.OBSERVED else self.kind.value


CLEAN = Expectation(None)
STALE_OBSERVED = Expectation(FindingKind.STALE, Evidence.OBSERVED)

Expect = Callable[..., Expectation]

OBSERVED = ":observed"
"""The suffix of a written verdict that only a use by a device of the scenario shows."""


def no_claim(why: str) -> Expectation:
    """Return the expectation that claims nothing: findings, or their absence, are only told."""
    return Expectation(None, unclaimed=why)


def parse_expectation(text: str) -> Expectation:
    """Return the expectation that a text states: `clean`, or kinds of findings; the first must show, the others may.

    Raises:
        ScenarioError: if the text names no kind of finding.
    """
    if text == str(CLEAN):
        return CLEAN
    first, *others = text.split(",")
    shown = Expectation(kind_of(first.removesuffix(OBSERVED)))
    if first.endswith(OBSERVED):
        shown = attrs.evolve(shown, evidence=Evidence.OBSERVED)
    return attrs.evolve(shown, also=frozenset(map(kind_of, others)))


def kind_of(name: str) -> FindingKind:
    """Return a kind of finding by its name.

    Raises:
        ScenarioError: if there is no such kind.
    """
    kinds = {one.value: one for one in FindingKind if one is not FindingKind.ILLEGAL}
    if name not in kinds:
        raise ScenarioError(f"there is no kind of finding {name!r}: name clean, or one of {', '.join(kinds)}")
    return kinds[name]


def __getattr__(name: str) -> Expectation:
    """Return the expectation of a kind of finding by the name of the kind: `STALE`, `OWED`, `LOST_ERROR` and so on.

    Raises:
        AttributeError: if there is no such kind, or it is a bug of emu.
    """
    if name not in FindingKind.__members__ or name == FindingKind.ILLEGAL.name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return Expectation(FindingKind[name])

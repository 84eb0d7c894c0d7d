"""What the checks judged, in words: a report that nothing was found says of what."""

from emu.analysis.judged import Judged
from emu.reports.counts import count


def judged_clause(judged: Judged) -> str:
    """Return how often the checks judged each kind of step, as the end of a sentence."""
    kinds = (
        (judged.returns, "return", None),
        (judged.deferred, "deferred call", None),
        (judged.accesses, "access", "accesses"),
        (judged.releases, "release", None),
        (judged.assignments, "assignment", None),
    )
    parts = [count(number, noun, plural) for number, noun, plural in kinds if number]
    never = [noun for number, noun, _ in kinds if not number]
    if never:
        parts.append(f"no {' or '.join(filter(None, (', '.join(never[:-1]), never[-1])))}")
    after = "; no access came after an assignment" if judged.assignments and not judged.accesses_after else ""
    return f"; judged in all: {', '.join(parts)}{after}"

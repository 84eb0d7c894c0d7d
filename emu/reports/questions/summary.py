"""How many events, agents and findings there are, and how many steps."""

from collections import Counter
from collections.abc import Iterable, Iterator

from emu.reports.log import Record, agent_name
from emu.reports.questions.executions import number_in
from emu.reports.questions.table import Column, Question, Row

KINDS_MAX = 100_000
"""The most names of each sort that are counted apart."""

OTHERS = "(others)"


def summary(records: Iterable[Record]) -> Iterator[Row]:
    """Yield the counts: of all, of findings, of agents, of events; of each sort the largest first."""
    findings: Counter[str] = Counter()
    agents: Counter[str] = Counter()
    events: Counter[str] = Counter()
    executions = steps = latest = 0
    execution: object = None
    for number, record in enumerate(records):
        event = record["event"]
        count(events, event)
        if event == "finding":
            count(findings, str(record.get("kind")))
        elif "step" in record:
            count(agents, agent_name(record))
        if number == 0 or record.get("execution") != execution or event == "execution.begin":
            execution, executions, steps, latest = record.get("execution"), executions + 1, steps + latest, 0
        latest = max(latest, number_in(record, "step"))
    if not events:
        return
    totals = {"executions": executions, "steps": steps + latest, "findings": findings.total()}
    yield from ({"sort": "all", "name": name, "count": number} for name, number in totals.items())
    for sort, counts in (("finding", findings), ("agent", agents), ("event", events)):
        ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        yield from ({"sort": sort, "name": name, "count": number} for name, number in ordered)


def count(counts: "Counter[str]", name: str) -> None:
    """Count a name; with the others, if there are too many."""
    counts[name if name in counts or len(counts) < KINDS_MAX else OTHERS] += 1


SUMMARY = Question(
    summary,
    (Column("count", "count", 9), Column("sort", "of", 8), Column("name", "name", 0)),
    "the log is empty",
    by_execution=False,
    of_filtered=True,
)

"""Who held a lock from step to step, and who waited for it how long."""

from collections.abc import Iterable, Iterator

import attrs

from emu.reports.log import Record, agent_name
from emu.reports.questions.executions import executions, number_in
from emu.reports.questions.table import Column, Question, Row


def lock_holders(records: Iterable[Record]) -> Iterator[Row]:
    """Yield the tickets of each execution, lock by lock, in the order in which they were drawn."""
    for of_one in executions(records, "lock."):
        named = [record for record in of_one if isinstance(record.get("lock"), str)]
        yield from sorted(holders(named), key=lambda row: (row["lock"], row["ticketed"]))


@attrs.define
class Lock:
    """A lock while the records of an execution are read.

    Attributes:
        waiting: rows of agents that have drawn a ticket, by their names, in order.
        held: the row of the agent that has the lock.
    """

    waiting: dict[str, Row] = attrs.field(factory=dict)
    held: Row | None = None


def holders(records: Iterable[Record]) -> Iterator[Row]:
    """Yield a row for each ticket that an agent of an execution has drawn."""
    locks: dict[str, Lock] = {}
    for record in records:
        lock = locks.setdefault(record["lock"], Lock())
        agent, step = agent_name(record), number_in(record, "step")
        match record["event"]:
            case "lock.ticket" | "lock.contend":
                lock.waiting[agent] = ticketed(record)
                if lock.held is not None:
                    lock.held["waiting"].append(agent)
            case "lock.acquire":
                lock.held = lock.waiting.pop(agent, None) or ticketed(record)
                lock.held["step"], lock.held["waiting"] = step, list(lock.waiting)
                lock.held |= {key: record[key] for key in ("waited", "waited_for") if key in record}
            case "lock.release" if lock.held is not None:
                yield {**lock.held, "released": step, "held": number_in(record, "held")}
                lock.held = None
    for lock in locks.values():
        yield from ([lock.held] if lock.held is not None else [])
        yield from lock.waiting.values()


def ticketed(record: Record) -> Row:
    """Return the row of an agent that has drawn a ticket."""
    common = {"execution": record.get("execution"), "lock": record["lock"], "agent": agent_name(record)}
    return {**common, "ticketed": number_in(record, "step"), "waiting": []}


def waits(row: Row) -> str:
    """Say for whom the agent waited, and who waited for it."""
    parts = [f"waited {row['waited']} for {row.get('waited_for')}" if "waited" in row else ""]
    if "step" not in row:
        parts.append("never got it")
    elif "released" not in row:
        parts.append("never released it")
    if row["waiting"]:
        parts.append(f"{', '.join(row['waiting'])} waited meanwhile")
    return "; ".join(filter(None, parts))


LOCK_HOLDERS = Question(
    lock_holders,
    (
        Column("lock", "lock", 20),
        Column("agent", "agent", 8),
        Column("ticketed", "ticket", 6),
        Column("step", "from", 6),
        Column("released", "to", 6),
        Column("held", "held", 5),
        Column("waiting", "", 0, waits),
    ),
    "no lock was taken",
)

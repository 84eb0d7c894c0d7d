"""What is owed and by whom: calls that put their flush off, what they changed, and which flush paid when, or never."""

from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from emu.reports.log import Record, agent_name
from emu.reports.questions.executions import executions, number_in, plain_in
from emu.reports.questions.table import Column, Question, Row

EVENTS = ("call.", "pte.write", "pte.clear", "queue.post", "invalidate.complete", "window", "finding")

Key = tuple[Any, ...]


@attrs.define
class Debts:
    """What the records of an execution tell of deferred calls.

    Attributes:
        calls: the stores of the call in which an agent is.
        debts: the returns of deferred calls, each with its stores, by step.
        posts: who submitted a descriptor, and when, by unit and slot.
        completions: slots by unit and step of the completion.
        windows: by domain, dfn, level and step of the store.
        payments: what a finding says of a debt, by domain, dfn and unit.
    """

    calls: dict[str, list[Record]] = attrs.field(factory=dict)
    debts: list[tuple[Record, list[Record]]] = attrs.field(factory=list)
    posts: dict[Key, tuple[str, int]] = attrs.field(factory=dict)
    completions: dict[Key, Any] = attrs.field(factory=dict)
    windows: dict[Key, list[Record]] = attrs.field(factory=dict)
    payments: dict[Key, str] = attrs.field(factory=dict)

    def add(self, record: Record) -> None:
        """Note what a record tells."""
        agent, step, unit = agent_name(record), number_in(record, "step"), str(record.get("iommu"))
        match record["event"]:
            case "call.enter":
                self.calls[agent] = []
            case "call.return":
                stores = self.calls.pop(agent, [])
                if record.get("deferred") is True:
                    self.debts.append((record, stores))
            case "pte.write" | "pte.clear":
                self.calls.setdefault(agent, []).append(record)
            case "queue.post":
                self.posts[unit, number_in(record, "slot")] = (agent, step)
            case "invalidate.complete":
                self.completions[unit, step] = number_in(record, "slot")
            case "window":
                self.windows.setdefault((*place(record), number_in(record, "opened")), []).append(record)
            case "finding" if "payment" in record:
                self.payments[plain_in(record, "domain"), plain_in(record, "dfn"), unit] = str(record["payment"])

    def rows(self) -> Iterator[Row]:
        """Yield a row for each entry that a deferred call replaced, and unit; one if it replaced none."""
        for returned, stores in self.debts:
            common = {key: returned.get(key) for key in ("execution", "step", "call", "domain", "dfn", "page_count")}
            common["agent"] = agent_name(returned)
            windows = [
                one for store in stores for one in self.windows.get((*place(store), number_in(store, "step")), ())
            ]
            for window in windows:
                yield {**common, "dfn": window.get("dfn"), "page_count": 1, **self.payment(window)}
            if not windows:
                yield common

    def payment(self, window: Record) -> Row:
        """Return which flush closed a window, who submitted it, and what a finding says of the debt."""
        unit, closed = str(window.get("iommu")), number_in(window, "closed")
        row = {"iommu": unit, "changed": window.get("opened"), "uses": window.get("uses")}
        payment = self.payments.get((plain_in(window, "domain"), plain_in(window, "dfn"), unit))
        row |= {"payment": payment} if payment else {}
        if window.get("still_open") is True:
            return row
        agent, posted = self.posts.get((unit, self.completions.get((unit, closed))), (None, None))
        return {**row, "paid": closed, "paid_by": agent, "posted": posted}


def place(record: Record) -> Key:
    """Return where the entry of a store or a window stands."""
    return tuple(plain_in(record, key) for key in ("domain", "dfn", "table_level"))


def owed(records: Iterable[Record]) -> Iterator[Row]:
    """Yield the debts of each execution, in the order in which the calls returned."""
    for of_one in executions(records, *EVENTS):
        debts = Debts()
        for record in of_one:
            debts.add(record)
        yield from debts.rows()


def paid(row: Row) -> str:
    """Say which flush paid a debt, and whether that was too late."""
    if "changed" not in row:
        return "nothing: no entry that devices could use was replaced"
    judged = f" (a finding: {row['payment']})" if "payment" in row else ""
    if "paid" not in row:
        return f"never{judged}"
    by = f"by {row['paid_by']}, posted at {row['posted']}" if row["paid_by"] else ""
    return f"at {row['paid']} {by}{judged}"


OWED = Question(
    owed,
    (
        Column("agent", "agent", 6),
        Column("call", "call", 6),
        Column("step", "return", 6),
        Column("domain", "dom", 4),
        Column("dfn", "dfn", 10),
        Column("changed", "changed", 7),
        Column("iommu", "unit", 6),
        Column("paid", "paid", 0, paid),
    ),
    "no call of the log has put its flush off",
)

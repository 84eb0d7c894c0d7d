"""Structured logs: one execution's trace, rendered through structlog. A log is a view of the trace.

There is no clock but the step, so two logs of one schedule are equal byte for byte, on every host and Python.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, TextIO

import attrs
import orjson
import structlog
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter
from structlog.typing import EventDict, WrappedLogger

from emu.analysis.cycles import CYCLES
from emu.analysis.source_lines import line_of_change
from emu.analysis.windows import Statistics, statistics
from emu.checks.findings import Finding
from emu.engine import Trace
from emu.engine.happens_before import HappensBefore
from emu.engine.trace import Event
from emu.errors import printable
from emu.files.whole import Writable
from emu.machine.machine import Machine
from emu.reports.findings import data
from emu.reports.key_types import plain_key, typed
from emu.reports.vocabulary import KEYS, is_in_hexadecimal
from emu.reports.whole_words import in_whole_words

ORDER = {key: number for number, key in enumerate(KEYS)}
LOG_FORMAT = "emu-log-2"
"""The format that the first record of a log names."""

HIDDEN_ON_CONSOLE = frozenset({"format", "level", "execution", "cpu", "device", "after", "agents", "source"})
RENDERERS_OWN = frozenset({"exc_info", "exception", "stack"})
"""Keys that structlog's renderer takes for a traceback; emu writes none, but a file that a user names may have one."""

KEYS_FROM = 34
"""The column in which the keys of a line for people begin."""

HIDDEN_BESIDE_DFN = frozenset({"address"})

Record = dict[str, Any]


def records(
    machine: Machine,
    findings: Iterable[Finding],
    header: Mapping[str, Any],
    cycles: Mapping[str, int] = CYCLES,
    *,
    with_order: bool = True,
) -> Iterator[Record]:
    """Yield an execution's log records in order, `event` and `level` in each.

    Args:
        header: format, scenario, parameters, strategy and seed; the seed is the execution's number.
        cycles: the table of cycles by event.
        with_order: tell which steps a step depends on, if the trace keeps its sources. It takes time, for long
            executions more than these took.
    """
    trace, found = machine.trace, list(findings)
    common = {"level": "info", "execution": header["seed"]}
    yield {"event": "execution.begin", **common, **header}
    yield from step_records(trace, common, HappensBefore.of(trace).direct if with_order and trace.sources else ())
    for finding in found:
        yield finding_record(machine, finding, common)
    summary = statistics(machine, cycles)
    for window in summary.windows:
        yield {"event": "window", **common, **attrs.asdict(window), "steps": window.steps}
    yield {"event": "execution.end", **common, "findings": len(found), **totals(trace.step, summary)}


def step_records(trace: Trace, common: Record, direct: Sequence[tuple[int, ...]]) -> Iterator[Record]:
    """Yield a record for each event of a trace; the first of a step has the steps that it depends on.

    Args:
        common: what all records of the execution have.
        direct: for each step, the steps that it depends on; empty if they are not told.
    """
    for event in trace.events():
        record = event_record(trace, event, common)
        if direct and not event.is_note and direct[event.step - 1]:
            record["after"] = list(direct[event.step - 1])
        yield record


def event_record(trace: Trace, event: Event, common: Mapping[str, Any]) -> Record:
    """Return the record of an event, with what all records of its execution have in common."""
    agent = event.agent
    record = {"event": event.name, **common, "step": event.step, "agent": agent.name, **agent.labels}
    record.update(typed(event.fields))
    source = line_of_change(trace, event.step)
    return {**record, "source": source} if source else record


def finding_record(machine: Machine, finding: Finding, common: Mapping[str, Any]) -> Record:
    """Return the record of a finding, with what all records of its execution have in common."""
    facts = {key: value for key, value in data(finding, machine.trace).items() if key in KEYS}
    named = [one.name for one in machine.agents if is_in(one.name, facts["message"])]
    return {"event": "finding", **common, "level": "warning", "agents": named, **dict(typed(facts))}


def is_in(name: str, message: str) -> bool:
    """Whether a message names an agent."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message) is not None


def totals(steps: int, summary: Statistics) -> dict[str, int]:
    """Return the totals of an execution's steps, windows, flushes and locks."""
    windows = summary.windows
    return {
        "steps": steps,
        "longest_window": max((window.steps for window in windows), default=0),
        "longest_window_cycles": max((window.cycles for window in windows), default=0),
        "open_windows": sum(window.still_open for window in windows),
        "uses_in_windows": sum(window.uses for window in windows),
        "over_flushed": summary.over_flushed,
        "lock_held": summary.lock_held,
        "lock_held_cycles": summary.lock_cycles,
    }


def write_json(lines: Iterable[Record], file: Writable) -> None:
    """Write records as JSON, one a line."""
    logger = structlog.wrap_logger(
        Sink(file.write),
        processors=[unpacked, in_order, structlog.processors.JSONRenderer(serializer=json_line)],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        cache_logger_on_first_use=True,
    )
    emit(logger, lines)


def write_console(lines: Iterable[Record], file: TextIO, *, colors: bool) -> None:
    """Write records for people: step, agent, event and keys. Without colours no line is wider than the terminal."""
    width = inf if colors else shutil.get_terminal_size().columns
    logger = structlog.wrap_logger(
        Sink(lambda line: file.write(filled(line.rstrip(), width) + "\n")),
        processors=[unpacked, in_order, for_people, console_renderer(colors=colors)],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        cache_logger_on_first_use=True,
    )
    emit(logger, lines)


def filled(line: str, width: float) -> str:
    """Return a line; its keys go on in further lines where it is too wide."""
    if len(line) <= width:
        return line
    return "\n".join(in_whole_words(line, int(width), rest=" " * KEYS_FROM))


def emit(logger: Any, lines: Iterable[Record]) -> None:
    """Log each record at its level. The record is one argument, because its keys may have any names."""
    for line in lines:
        getattr(logger, line["level"])(line)


def unpacked(logger: WrappedLogger, method: str, record: EventDict) -> EventDict:
    """Return the record that was logged as one argument."""
    found: EventDict = record["event"]
    return found


@attrs.frozen
class Sink:
    """A logger with the only methods that structlog calls here; rendered lines go to `write`."""

    write: Any

    def info(self, line: str | bytes) -> None:
        """Write a line."""
        self.write(line)

    warning = info


def json_line(record: Any, **_: Any) -> bytes:
    """Serialize a record as one line."""
    return orjson.dumps(record, default=str) + b"\n"


def in_order(logger: WrappedLogger, method: str, record: EventDict) -> EventDict:
    """Put the keys of a record into the order of the vocabulary; a scenario's own come last."""
    return {key: record[key] for key in sorted(record, key=lambda key: (ORDER.get(key, len(ORDER)), key))}


def for_people(logger: WrappedLogger, method: str, record: EventDict) -> EventDict:
    """Name the agent in one column, write addresses in hexadecimal, and leave out what only machines read."""
    shown: EventDict = {"step": record.get("step", ""), "agent": agent_name(record), "event": record["event"]}
    hidden = HIDDEN_ON_CONSOLE | ({"table_level"} if record.get("table_level") == 1 else set())
    if "dfn" in record or "descriptor" in record or record["event"] == "queue.write":
        hidden |= HIDDEN_BESIDE_DFN
    for key, value in record.items():
        if key not in hidden and key not in shown and not (key == "iommu" and value == shown["agent"]):
            name = f"{key}:" if key in RENDERERS_OWN else shown_on_terminal(plain_key(key))
            shown[name] = f"{value:#x}" if is_in_hexadecimal(key, value) else value
    return shown


def shown_on_terminal(value: object) -> str:
    """Return a value as a text without control characters."""
    text = str(value)
    return text if text.isprintable() else printable(" ".join(text.split("\n")))


def agent_name(record: EventDict) -> str:
    """Return the name of the agent of a record; empty if it has none."""
    if "agent" in record:
        return str(record["agent"])
    if "cpu" in record:  # format 1
        return f"cpu{record['cpu']}"
    name = record.get("device") or record.get("iommu") if "step" in record else ""
    return str(name or "")


def console_renderer(*, colors: bool) -> ConsoleRenderer:
    """Return structlog's renderer with a column each for step, agent and event."""
    dim, bold, cyan, off = ("\x1b[2m", "\x1b[1m", "\x1b[36m", "\x1b[0m") if colors else ("", "", "", "")

    def column(name: str, style: str, width: int, *, with_key: bool = False) -> Column:
        formatter = KeyValueColumnFormatter(
            key_style=dim if with_key else None,
            value_style=style,
            reset_style=off,
            value_repr=shown_on_terminal,
            width=width,
        )
        return Column(name, formatter)

    return ConsoleRenderer(
        sort_keys=False,
        columns=[
            column("", "", 0, with_key=True),
            column("step", dim, 4),
            column("agent", cyan, 8),
            column("event", bold, 19),
        ],
    )

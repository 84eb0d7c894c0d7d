"""What a finding needs, in words: this step before that one."""

import re
from collections.abc import Mapping, Sequence

from emu.analysis.flushes import posts_by_unit, submission
from emu.engine import Event, Trace

VERBS = {
    "bitmap.clear": "clears a bit of {bitmap}",
    "bitmap.read": "reads {bitmap}",
    "bitmap.set": "sets a bit of {bitmap}",
    "context.write": "writes the context entry of {bdf}",
    "device.find": "looks for {bdf}",
    "device.hand_over": "gives {bdf} away",
    "device_entry.write": "writes the table entry of {bdf}",
    "stream.write": "writes {register} of {bdf}",
    "cpu_tlb.flush": "flushes the CPUs' TLBs",
    "pte.track": "changes a valid bit",
    "stream.match": "has its registers read",
    "stream.fault": "has its registers read",
    "queue.active": "polls {iommu}",
    "queue.complete": "completes a wait",
    "dma.program": "is programmed to access dfn {dfn:#x}",
    "dma.read": "reads mfn {mfn:#x}",
    "dma.write": "writes to mfn {mfn:#x}",
    "hypercall.settle": "ends its hypercall",
    "iotlb.fill": "caches the translation of dfn {dfn:#x}",
    "iotlb.hit": "finds the translation of dfn {dfn:#x} cached",
    "line.write_back": "writes a cache line back",
    "list.add": "adds a page to {list}",
    "list.read": "looks over {list}",
    "list.remove": "takes a page off {list}",
    "lock.contend": "asks for {lock}",
    "lock.release": "releases {lock}",
    "lock.ticket": "takes {lock}",
    "p2m.read": "looks gfn {gfn:#x} up",
    "p2m.write": "changes gfn {gfn:#x}",
    "page.allocate": "gives mfn {mfn:#x} out",
    "page.free": "frees mfn {mfn:#x}",
    "page.get": "takes a reference to mfn {mfn:#x}",
    "page.let_map": "lets mfn {mfn:#x} be mapped",
    "page.put": "drops a reference to mfn {mfn:#x}",
    "page.withdraw": "ends the right to map mfn {mfn:#x}",
    "percpu.read": "reads its {variable}",
    "percpu.write": "writes its {variable}",
    "pte.clear": "clears {entry}",
    "pte.read": "reads {entry}",
    "pte.write": "writes {entry}",
    "queue.drop": "drops a command, for the buffer is full",
    "queue.head": "looks whether the command buffer is full",
    "queue.status": "writes the status of a wait",
    "signal.send": "sends {signal}",
    "variable.read": "reads {variable}",
    "variable.write": "sets {variable} to {value}",
    "walk.context": "has its context entry read",
    "walk.device_entry": "has its table entry read",
    "walk.read": "reads {entry} in a walk",
    "walk.void": "begins its walk again",
}
"""By event, what an agent does in a step, with the keys of the event."""

OF_FLUSHES = {
    "device_entry.invalidate": "drops cached device entries",
    "invalidate.begin": "begins",
    "invalidate.complete": "completes",
    "iotlb.invalidate": "drops what is cached",
    "queue.fetch": "is fetched",
}
"""By event, what happens to a flush that a CPU has submitted."""


def needs(trace: Trace, pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """Return pairs of steps in words: "cpu0 clears the entry of dfn 0x1000 before cpu1 reads it"."""
    events = {event.step: event for event in trace.events() if not event.is_note}
    posts = posts_by_unit(events.values())
    said: dict[tuple[int, int], str] = {}
    for pair in pairs:
        first, second = (clause(events[step], posts) for step in pair)
        said[pair] = f"{first} before {again(first, second, events[pair[0]])}"
    return said


def again(first: str, second: str, event: Event) -> str:
    """Return the second clause; what the first one has named, the second calls "it".

    Args:
        event: the event of the first clause.
    """
    names = (
        entry(event),
        whole_entry(event),
        *(str(event.fields.get(key, "")) for key in ("lock", "variable", "bitmap", "bdf")),
    )
    pages = (f"{key} {event.fields[key]:#x}" for key in ("dfn", "mfn") if isinstance(event.fields.get(key), int))
    named = next(
        (one for one in (*names, *pages) if one and all(whole(one).search(text) for text in (first, second))), ""
    )
    return whole(named).sub("it", second) if named else second


def whole(name: str) -> re.Pattern[str]:
    """Return the pattern of a name that is not a part of another one."""
    return re.compile(rf"(?<![\w.:/]){re.escape(name)}(?![\w.:/])")


def clause(event: Event, posts: Mapping[str, list[Event]]) -> str:
    """Return what happens in a step, as a clause.

    Args:
        posts: the events that submitted flushes, by unit.
    """
    agent, fields = event.agent.name, event.fields
    if event.name == "call.return":
        return f"{agent}'s {fields['call']}{of_page(event)} returns"
    if event.name in OF_FLUSHES:
        posted = submission(event, posts.get(fields["iommu"], []))
        flush = f"{agent}'s invalidation" if posted is event else f"{posted.agent.name}'s flush{of_page(event)}"
        return f"{flush} {OF_FLUSHES[event.name]}"
    words = VERBS.get(event.name)
    keys = {"entry": entry(event), **fields}
    return f"{agent} {words.format_map(keys)}" if words else f"step {event.step} of {agent} ({event.name})"


def entry(event: Event) -> str:
    """Name the page-table entry that an event is about, or half of it; nothing if it is about none."""
    half = event.fields.get("half")
    return f"the {half} half of {whole_entry(event)}" if half else whole_entry(event)


def whole_entry(event: Event) -> str:
    """Name the page-table entry that an event is about; nothing if it is about none."""
    dfn, level = event.fields.get("dfn"), event.fields.get("table_level")
    if not isinstance(dfn, int):
        return ""
    return f"the entry of dfn {dfn:#x}" + (f" at level {level}" if level != 1 else "")


def of_page(event: Event) -> str:
    """Name the page that an event is about; nothing if it is about none."""
    dfn = event.fields.get("dfn")
    return f" of dfn {dfn:#x}" if isinstance(dfn, int) else ""

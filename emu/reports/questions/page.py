"""What happened to a page, from its mapping to its last use: what is about it, and what is about all pages.

That is: calls for it and what they promise, stores to its entries, what units cache and drop of it, flushes that cover
it, accesses through it, and at the end findings and windows.
"""

from collections.abc import Iterable, Iterator

from emu.reports.filters import covers
from emu.reports.log import Record, agent_name
from emu.reports.questions.executions import executions, number_in, plain_in
from emu.reports.questions.table import Column, Question, Row, cell_text

STORES = ("pte.write", "pte.clear")
FLUSHES = ("invalidate.begin", "iotlb.invalidate", "invalidate.complete")
EVENTS = ("execution.begin", "device.hand_over", "call.", *STORES, *FLUSHES, "iotlb.", "dma.", "finding", "window")

INDEX_BITS = 9
"""So many bits of a dfn index a table, unless the parameter superpage_bits says otherwise of the lower two levels."""

SUPERPAGE_LEVELS = 2

TEXTS = {
    "call.enter": "{call} begins",
    "invalidate.begin": "a flush of {range} begins",
    "iotlb.invalidate": "drops {removed} cached, of {range}",
    "invalidate.complete": "the flush of {range} is complete",
    "iotlb.fill": "cached at {iommu}: {leaf}",
    "iotlb.hit": "found at {iommu}: {leaf}",
    "iotlb.miss": "not cached at {iommu}",
    "iotlb.bypass": "translated at {iommu}, not cached",
    "iotlb.evict": "{iommu} drops it",
    "dma.program": "an access is programmed",
    "dma.post": "a write is posted",
    "dma.again": "the translation was taken back; the request begins again",
    "dma.read": "reads mfn {mfn} through {iommu}",
    "dma.write": "writes mfn {mfn} through {iommu}",
    "dma.fault": "{iommu} refuses the access",
    "finding": "finding: {kind} {evidence}",
    "window": "window at {iommu} from {opened} to {closed}: {steps} steps, {uses} uses",
}


def page(dfn: int, domains: tuple[int, ...]) -> Question:
    """Return the question what happened to a page; of any domain, if none is named."""

    def rows(records: Iterable[Record]) -> Iterator[Row]:
        for of_one in executions(records, *EVENTS):
            owners = Owners(of_one)
            bits = superpage_bits(of_one)
            for record in of_one:
                domain = owners.of(record)
                if is_about(record, dfn, bits) and (not domains or domain is None or domain in domains):
                    yield {**record, "agent": agent_name(record), "domain": domain, "what": what(record)}

    return Question(rows, COLUMNS, f"nothing happened to dfn {dfn:#x}")


class Owners:
    """Whose pages the records of an execution are about, as far as its records tell."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.tags: dict[object, str | int] = {}
        self.devices: dict[object, set[str | int | None]] = {}
        for record in records:
            domain = plain_in(record, "domain")
            if record["event"] == "window" and domain is not None:
                self.tags[tag_of(record)] = domain
            elif record["event"] in ("device.hand_over", "dma.program"):
                self.devices.setdefault(plain_in(record, "bdf") or plain_in(record, "device"), set()).add(domain)
        for record in records:
            if (owner := self.tags.get(tag_of(record))) is not None and "device" in record:
                self.devices.setdefault(plain_in(record, "device"), set()).add(owner)

    def of(self, record: Record) -> int | None:
        """Return the domain of a record; None where that is not known."""
        domain = record.get("domain", self.tags.get(tag_of(record)))
        owners = self.devices.get(plain_in(record, "device"), set())
        if domain is None and len(owners) == 1:
            (domain,) = owners
        return domain if isinstance(domain, int) else None


def tag_of(record: Record) -> tuple[str | int | None, str | int | None]:
    """Return the unit and the tag of a record."""
    return plain_in(record, "iommu"), plain_in(record, "tag")


def superpage_bits(records: list[Record]) -> int:
    """Return how many bits of a dfn index the lower tables, as the parameters of the execution say."""
    parameters = records[0].get("parameters", ()) if records else ()
    for text in parameters if isinstance(parameters, list) else ():
        name, _, value = str(text).partition("=")
        if name == "superpage_bits" and value.isdigit():
            return int(value[:2])
    return INDEX_BITS


def is_about(record: Record, dfn: int, bits: int) -> bool:
    """Whether a record tells what happened to a page."""
    event = record["event"]
    if event in ("execution.begin", "device.hand_over"):
        return False
    if event in STORES or event == "window":
        level = number_in(record, "table_level", 1)
        low = min(level - 1, SUPERPAGE_LEVELS)
        shift = bits * low + INDEX_BITS * (level - 1 - low)
        return 0 <= shift <= 64 and number_in(record, "dfn", -1) >> shift == dfn >> shift
    is_of_all = "dfn" not in record and event.startswith((*FLUSHES, "call."))
    return is_of_all or covers(record, dfn, dfn)


def what(record: Record) -> str:
    """Say what a record tells of a page."""
    event: str = record["event"]
    if event == "call.return":
        return f"{record.get('call')} returns {record.get('result')}: {promised(record)}"
    if event in STORES:
        return stored(record)
    order = min(number_in(record, "page_order"), 64)
    size = f"{1 << order} pages from " if order > 0 else ""
    within = f"{size}dfn {number_in(record, 'dfn'):#x}" if "dfn" in record else "all pages"
    texts = {key: cell_text(key, value) for key, value in record.items()} | {"range": within}
    return TEXTS.get(event, event).format_map(Texts(texts))


class Texts(dict[str, str]):
    """Texts by key; a key that a user's file lacks is shown as a question mark."""

    def __missing__(self, key: str) -> str:
        return "?"


def promised(record: Record) -> str:
    """Say what the return of a call promises."""
    if record.get("deferred") is True:
        return "promises nothing yet, the flush is put off"
    if record.get("result") == "ok":
        return "promises that nothing old is used"
    return "promises nothing new"


def stored(record: Record) -> str:
    """Say how a store changed an entry."""
    level = number_in(record, "table_level", 1)
    at = f" at level {level}" if level > 1 else ""
    half = f" ({record['half']} half)" if "half" in record else ""
    return f"entry{at}: {cell_text('old', record.get('old'))} -> {cell_text('value', record.get('value'))}{half}"


COLUMNS = (
    Column("step", "step", 5),
    Column("agent", "agent", 8),
    Column("domain", "dom", 4),
    Column("what", "what happened", 0),
)

"""What a step did, in a few words for a column of a table."""

from collections.abc import Mapping
from typing import Any

import attrs

from emu.analysis.relevant import Interleaving
from emu.engine import Event
from emu.errors import printable
from emu.hypervisor.ops import OK, RESULT_NAMES
from emu.iommus.formats import TableFormat
from emu.machine.machine import Machine
from emu.reports.vocabulary import is_in_hexadecimal
from emu.units import Dfn, address_frame, page_count

TEXT_MAX = 60
"""How many characters of a text are shown."""

TEXTS: Mapping[str, str] = {
    "hypercall.enter": "begin {hypercall}",
    "hypercall.exit": "end {hypercall}",
    "hypercall.settle": "end {hypercall}: deferred flushes due",
    "softirq.run": "softirq {handler}",
    "call.enter": "call {call} {page}",
    "call.return": "return {call}: {outcome}{put_off}",
    "percpu.read": "read {variable}: {value}",
    "percpu.write": "{variable} = {value}",
    "variable.read": "read {variable}: {value}",
    "variable.write": "{variable} = {value}",
    "signal.send": "signal {signal}",
    "wait": "go on: {for}",
    "choice": "{about}: choice {chosen}",
    "lock.ticket": "take {lock}",
    "lock.contend": "wait for {lock}",
    "lock.acquire": "lock {lock}",
    "lock.release": "unlock {lock}",
    "memory.load": "load {address}: {value}",
    "memory.store": "store {address} = {value}",
    "line.write_back": "write back line {address}",
    "buffer.drain": "drain write buffer",
    "pte.read": "read {which}: {entry}",
    "pte.write": "{which} = {entry}",
    "pte.clear": "{which} = {entry}",
    "context.read": "read entry of {bdf}",
    "context.write": "entry of {bdf}: {words}",
    "device_entry.read": "read entry of {bdf}",
    "device_entry.write": "entry of {bdf}: {words}",
    "stream.write": "{register} of {bdf}: {words}",
    "device.hand_over": "{given}",
    "pte.track": "valid bit of {address}: {words}",
    "cpu_tlb.flush": "flush the CPUs' TLBs of domain {domain}",
    "table.allocate": "allocate table mfn {mfn}",
    "table.take": "unlist table mfn {mfn}",
    "page.get": "take a reference to mfn {mfn}",
    "page.put": "drop a reference to mfn {mfn}",
    "page.free": "free mfn {mfn}",
    "page.allocate": "allocate mfn {mfn} for domain {domain}",
    "page.let_map": "let domain {domain} map mfn {mfn}",
    "page.withdraw": "withdraw mfn {mfn} from domain {domain}",
    "p2m.read": "read p2m {page}: {frame}",
    "p2m.write": "p2m {page} = {frame}",
    "list.move": "move list {list}",
    "console.print": "log: {text}",
    "domain.crash": "crash domain {domain}",
    "fault.inject": "fault injected: {failed}",
    "flush.skip": "no flush at {iommu}",
    "queue.write": "write slot {slot}",
    "queue.post": "post {posted}",
    "queue.drop": "drop command: queue is full",
    "queue.error": "queue stops: bad descriptor",
    "queue.fetch": "fetch {asked}",
    "queue.status": "write status to {address}",
    "queue.complete": "complete wait",
    "queue.active": "poll: {active} active",
    "flush.done": "end of wait for flush",
    "invalidate.begin": "begin flush {asked}",
    "iotlb.invalidate": "invalidate {asked}",
    "invalidate.complete": "complete flush {asked}",
    "context.invalidate": "drop cached context entries",
    "context.fill": "cache context entry",
    "device_entry.invalidate": "drop cached device entry",
    "device_entry.complete": "drained after device entry",
    "device_entry.fill": "cache device entry",
    "stream.match": "find tables of tag {tag}",
    "stream.fault": "find no tables",
    "walk.read": "walk finds {page}: {entry}",
    "walk.stream_entry": "walk reads the stream table entry",
    "walk.pass_through": "let pass untranslated",
    "iotlb.hit": "find {page} cached",
    "iotlb.miss": "{page} not cached",
    "iotlb.fill": "cache {page}",
    "dma.program": "program {page}",
    "dma.post": "post write {page}",
    "dma.read": "read {page} -> mfn {mfn}",
    "dma.write": "write {page} -> mfn {mfn}",
    "dma.fault": "{access} {page}: refused",
}
"""The text of each event, with its keys and those that `StepTexts.keys_of` derives; others are shown by their names."""


class Keys(dict[str, Any]):
    """The keys of an event; one that it does not have is an empty text."""

    def __missing__(self, key: str) -> str:
        """Return an empty text."""
        return ""


@attrs.frozen
class StepTexts:
    """Says what steps of one execution did.

    Attributes:
        formats: the format of each domain's tables, by the domain's number.
        asked: the keys of each descriptor that was fetched, by unit and slot.
        names_domains: there are several domains, so pages are named with theirs.
    """

    formats: Mapping[int, TableFormat]
    asked: Mapping[tuple[str, int], Mapping[str, Any]]
    names_domains: bool

    @classmethod
    def of(cls, machine: Machine, shown: Interleaving) -> "StepTexts":
        """Return the texts for the execution of a machine."""
        formats = {number: domain.format for number, domain in machine.domains.items()}
        return cls(formats, shown.asked, len(formats) > 1)

    def text(self, event: Event) -> str:
        """Say what happened."""
        template = TEXTS.get(event.name)
        said = event.name.replace(".", " ") if template is None else template.format_map(self.keys_of(event))
        said = " ".join(printable(said).split())
        return said if len(said) <= TEXT_MAX else f"{said[: TEXT_MAX - 3]}..."

    def keys_of(self, event: Event) -> Keys:
        """Return the keys of an event as they are shown, and those that are derived."""
        fields = event.fields
        keys = Keys({key: f"{value:#x}" if is_in_hexadecimal(key, value) else value for key, value in fields.items()})
        keys["page"] = self.page(fields)
        keys["asked"] = asked = self.described(fields)
        keys["posted"] = asked if asked.startswith(("wait", "to ")) else f"flush {asked}"
        if "result" in fields:
            result = fields["result"]
            keys["outcome"] = "success" if result in {OK, RESULT_NAMES[OK]} else RESULT_NAMES.get(result, result)
        if "value" in fields and "dfn" in fields:
            keys["entry"] = self.entry(fields)
            level = fields.get("table_level", 1)
            keys["which"] = f"entry {keys['page']}" if level == 1 else f"entry {keys['page']} of level {level}"
        if event.name in {"pte.track", "stream.write", "context.write", "device_entry.write"} and "old" in fields:
            keys["words"] = f"{fields['old']:#x} -> {fields['value']:#x}"
        if event.name.startswith("percpu.") and isinstance(fields["value"], bool):
            keys["value"] = int(fields["value"])
        if event.name == "device.hand_over":
            owner = fields["domain"]
            keys["given"] = f"take {keys['bdf']} away" if owner is None else f"give {keys['bdf']} to domain {owner}"
        keys["frame"] = f"mfn {fields['mfn']:#x}" if "mfn" in fields else "none"
        keys["put_off"] = " (deferred)" if fields.get("deferred") else ""
        if event.name == "fault.inject":
            keys["failed"] = f"{fields.get('hook') or fields.get('iommu') or 'no memory'}: {keys['outcome']}"
        return keys

    def page(self, fields: Mapping[str, Any]) -> str:
        """Name the pages of an event, with their domain if there are several."""
        if "dfn" not in fields:
            return ""
        first, pages = fields["dfn"], fields.get("page_count")
        pages = page_count(fields.get("page_order", 0)) if pages is None else pages
        of_domain = f"d{fields['domain']}:" if self.names_domains and "domain" in fields else ""
        if not pages:
            return f"{of_domain}all"
        return f"{of_domain}{first:#x}" + (f"..{first + pages - 1:#x}" if pages > 1 else "")

    def described(self, fields: Mapping[str, Any]) -> str:
        """Say what a descriptor asks for, or what an invalidation covers."""
        if "tag" not in fields and "descriptor" not in fields:
            fields = self.asked.get((fields.get("iommu", ""), fields.get("slot", -1)), fields)
        kind = fields.get("descriptor")
        if kind in {"wait", "context", "device"}:
            return f"{kind} entry" if kind != "wait" else "wait"
        if "tag" not in fields:
            return f"to {fields.get('iommu', '')}"
        tag = f"tag {fields['tag']}"
        if "dfn" in fields:
            return f"{self.page(fields)} {tag}"
        return "everything" if fields["tag"] == "all" else f"all of {tag}"

    def entry(self, fields: Mapping[str, Any]) -> str:
        """Say to what an entry leads that was read or stored."""
        half = f" ({fields['half']} half)" if "half" in fields else ""
        format_ = self.formats.get(fields.get("domain", next(iter(self.formats), None)))
        if format_ is None:
            return f"{fields['value']:#x}{half}"
        return f"{led_to(format_, fields['value'], fields.get('table_level', 1), fields['dfn'])}{half}"


def led_to(format_: TableFormat, word: int, level: int, dfn: int) -> str:
    """Say to what a page-table word leads, for one page."""
    entry = format_.decode(word, level)
    if entry is None:
        return "not present"
    if not entry.is_leaf:
        return f"table mfn {address_frame(entry.address):#x}"
    frame = address_frame(entry.address) + (dfn - format_.base(Dfn(dfn), level))
    permitted = {(True, False): " read-only", (False, True): " write-only", (False, False): " no access"}
    return f"mfn {frame:#x}{permitted.get((entry.read, entry.write), '')}"

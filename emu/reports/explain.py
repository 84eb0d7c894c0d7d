"""What a word means: a kind of finding, an event of a log, or a key of one; for people, as data, and as a page."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from emu.checks.kinds import FindingKind
from emu.errors import ScenarioError, did_you_mean
from emu.reports.defects import WIDTH as PAGE_WIDTH
from emu.reports.defects import table
from emu.reports.glossary import EXPLANATIONS, Explanation
from emu.reports.occurrences import Occurrence, emitters, occurrences
from emu.reports.vocabulary import EVENTS, KEYS

WIDTH = 80
KINDS = {kind.value: kind for kind in FindingKind}
SORTS = {"kind of finding": "kinds of findings", "event": "events of logs", "key": "keys of logs"}
NOWHERE = "none of the executions that were looked at"
EVENTS_SHOWN = 8
"""Of how many events it is said that they have a key; the page has them all."""

HEAD = """\
# Glossary

The kinds of findings, and the events and keys of logs, as `emu explain WORD` tells them. What emu is about in two
lines: software *flushes*, hardware *invalidates*; in between a device may use what was replaced.

This page is generated from the words in `emu/checks/kinds.py`, `emu/reports/glossary.py` and
`emu/reports/vocabulary.py`: `python -m tests.test_glossary` renews it.
"""


@attrs.frozen
class Word:
    """A meaning of a word.

    Attributes:
        sort: "kind of finding", "event" or "key".
        facts: the rest, each with its heading.
    """

    name: str
    sort: str
    means: str
    facts: Mapping[str, Any]

    def lines(self) -> Iterator[str]:
        """Yield what is said to people."""
        yield f"{self.name}: {self.sort}"
        yield filled(self.means, "  ")
        for heading, fact in self.facts.items():
            if isinstance(fact, str):
                is_command = fact.startswith("emu ")
                yield f"  {heading:<9} {fact}" if is_command else filled(fact, f"  {heading:<9} ")
            else:
                yield f"  {heading}"
                yield from (filled(means, f"    {agent:<8} {event:<19} ") for agent, event, means in fact)

    def data(self) -> dict[str, Any]:
        """Return the same as data."""
        facts = {
            heading.replace(" ", "_") or "log": fact if isinstance(fact, str) else [one._asdict() for one in fact]
            for heading, fact in self.facts.items()
        }
        return {"name": self.name, "sort": self.sort, "means": self.means, **facts}


def filled(text: str, head: str) -> str:
    """Return a text behind a head, in lines that fit a terminal; further lines begin below the text."""
    return textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)


def words(name: str) -> list[Word]:
    """Return the meanings of a word.

    Raises:
        ScenarioError: if it has none, with the word that may be meant.
    """
    found = [
        *([kind_word(KINDS[name])] if name in KINDS else []),
        *([event_word(name)] if name in EVENTS else []),
        *([key_word(name)] if name in KEYS else []),
    ]
    if not found:
        known = (*KINDS, *EVENTS, *KEYS)
        raise ScenarioError(
            f"nothing is explained by the name {name[:80]!r}{did_you_mean(name, known)}; `emu explain` lists all"
        )
    return found


def every_word() -> Iterator[Word]:
    """Yield all words, without what takes long to find."""
    yield from (Word(kind.value, "kind of finding", kind.meaning, {}) for kind in FindingKind)
    yield from (Word(name, "event", means, {}) for name, means in EVENTS.items())
    yield from (Word(name, "key", means, {}) for name, means in KEYS.items())


def listed(found: Sequence[Word]) -> Iterator[str]:
    """Yield a line or more for each word, below a heading for each sort."""
    for sort, plural in SORTS.items():
        of_sort = [one for one in found if one.sort == sort]
        width = max(len(one.name) for one in of_sort)
        yield plural
        yield from (filled(one.means, f"  {one.name:<{width}}  ") for one in of_sort)
        yield ""
    yield "emu explain WORD says more about each"


def kind_word(kind: FindingKind) -> Word:
    """Return what a kind of finding is about."""
    told = EXPLANATIONS[kind]
    facts: dict[str, Any] = {"promised": told.promised, "broken by": told.broken, "harm": told.harm}
    if told.scenario:
        facts |= {"race": told.race, "shown by": command(told)}
    return Word(kind.value, "kind of finding", kind.meaning, facts)


def command(told: Explanation) -> str:
    """Return the command that shows a kind of finding."""
    return f"emu explore {told.scenario}{''.join(f' -p {one}' for one in told.parameters.split())}"


def event_word(name: str) -> Word:
    """Return what an event means, who emits it and where it occurs."""
    one = occurrences()["events"].get(name)
    code = "; ".join(emitters(name))
    if one is None:
        return Word(name, "event", EVENTS[name], {"in": code, "seen in": NOWHERE})
    facts = {"by": " or ".join(one.by), "in": code, "keys": ", ".join(one.beside), **seen_in(one, name)}
    return Word(name, "event", EVENTS[name], {heading: fact for heading, fact in facts.items() if fact})


def key_word(name: str) -> Word:
    """Return what a key means, which events have it, and where it occurs."""
    one = occurrences()["keys"].get(name)
    if one is None:
        return Word(name, "key", KEYS[name], {"seen in": NOWHERE})
    shown, count = one.beside[:EVENTS_SHOWN], len(one.beside)
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return Word(name, "key", KEYS[name], {"of": ", ".join(shown) + more, **seen_in(one, shown[0])})


def seen_in(one: Occurrence, event: str) -> dict[str, str]:
    """Return the commands that show an event in the log of an execution."""
    return {"seen in": one.command(), "": f"emu log x.jsonl --event {event}"}


def page() -> str:
    """Return the page."""
    return "\n".join((HEAD, *of_kinds(), *of_events(), *of_keys()))


def of_kinds() -> Iterator[str]:
    """Yield the sections about kinds of findings."""
    yield "## Kinds of findings\n"
    for kind, told in EXPLANATIONS.items():
        yield f"### {kind.value}\n"
        yield on_page(f"{kind.meaning[0].upper()}{kind.meaning[1:]}.")
        yield ""
        for heading, text in (("Promised", told.promised), ("Broken by", told.broken), ("Harm", told.harm)):
            yield on_page(f"* *{heading}*: {text}", "  ")
        if told.scenario:
            yield f"* *Shown by*: `{command(told)}`\n"
            yield from table([("who", "event", "what it means"), *told.race])
        yield ""


def of_events() -> Iterator[str]:
    """Yield the section about events."""
    yield "## Events\n"
    seen = occurrences()["events"]
    rows = [(f"`{name}`", means, " or ".join(seen[name].by) if name in seen else "") for name, means in EVENTS.items()]
    yield from table([("event", "what it means", "by"), *rows])
    yield ""


def of_keys() -> Iterator[str]:
    """Yield the section about keys."""
    yield "## Keys\n"
    yield from table([("key", "what it means"), *((f"`{name}`", means) for name, means in KEYS.items())])


def on_page(text: str, indent: str = "") -> str:
    """Return a text in lines that fit a page."""
    return textwrap.fill(text, PAGE_WIDTH, subsequent_indent=indent, break_on_hyphens=False)

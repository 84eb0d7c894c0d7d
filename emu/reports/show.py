"""All that emu knows of one scenario: story, parameters, verdicts, defects, and the functions of Xen that it calls."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import attrs

from emu.engine.sources import from_here
from emu.platforms import PLATFORMS, Platform
from emu.reports.explain import filled
from emu.reports.sources import ROOT, Source, sources
from emu.running.called import called_by
from emu.scenarios.defects import DEFECTS, said
from emu.scenarios.parameters import VENDOR, parameter_data
from emu.scenarios.scenario import Scenario
from emu.scenarios.verdicts import Row, Verdicts

NAMED = re.compile(r"\b(?:XSA-\d+|[BCDRV]\d+[a-z]?)\b")
"""The name of an advisory, a bug or a defect."""

PERFORM = ".perform"
"""The function of an operation that does its work; what it models of Xen is said of its class."""

Files = dict[str, list[str]]
"""Functions of Xen, by file."""


@attrs.frozen
class Told:
    """The docstring of a scenario, reflowed: its paragraphs, and what it says of each parameter."""

    paragraphs: tuple[str, ...]
    parameters: Mapping[str, str]

    @classmethod
    def of(cls, scenario: Scenario) -> "Told":
        """Read the docstring of a scenario."""
        own = {one.name for one in scenario.parameters}
        paragraphs, parameters, current = [""], dict[str, str](), ""
        for line in (inspect.getdoc(scenario.build) or "").splitlines():
            name, colon, rest = line.partition(": ")
            if colon and name in own:
                current, parameters[name] = name, rest
            elif not line:
                current = ""
                paragraphs.append("")
            elif current:
                parameters[current] += f" {line.strip()}"
            else:
                paragraphs[-1] += f" {line.strip()}"
        return cls(tuple(text.strip() for text in paragraphs if text), parameters)


@attrs.frozen
class ShownScenario:
    """A scenario, to be shown.

    Attributes:
        comes_with_emu: it does, so that the defects may name it.
    """

    scenario: Scenario
    comes_with_emu: bool

    @property
    def about(self) -> str:
        """The docstring of its file, reflowed."""
        return " ".join((self.scenario.build.__globals__.get("__doc__") or "").split())

    @property
    def place(self) -> str:
        """Its file and line."""
        code = self.scenario.build.__code__
        return f"{from_here(Path(code.co_filename))}:{code.co_firstlineno}"

    def parameters(self) -> list[dict[str, str]]:
        """Return its own parameters, each with what the docstring says of it."""
        meanings = Told.of(self.scenario).parameters
        return [
            parameter_data(one) | ({"meaning": meanings[one.name]} if one.name in meanings else {})
            for one in self.scenario.parameters
        ]

    def verdicts(self, platform: Platform) -> dict[str, dict[str, str]]:
        """Return what is declared of each revision in each cell on a vendor's machines."""
        found = {}
        for cell in self.scenario.cells_on(platform):
            texts = {VENDOR: platform.name, **dict(pair.split("=", 1) for pair in cell.split())}
            bound = self.scenario.bind(texts)
            parameters = " ".join(f"{name}={value}" for name, value in texts.items() if name != VENDOR)
            found[parameters] = {revision: said(bound.declared(revision)) for revision in platform.revisions}
        return found

    def unclaimed(self, platform: Platform) -> dict[str, str]:
        """Return why nothing is claimed with some parameters on a vendor's machines."""
        rows = self.scenario.expect.rows if isinstance(self.scenario.expect, Verdicts) else ()
        names = {one.name for one in self.scenario.bind({VENDOR: platform.name}).parameters}
        return {row.asked: why for row in rows if row.fits(platform.name, names) and (why := reason(row))}

    def defects(self) -> dict[str, str]:
        """Return the defects of the patch that it shows, and what each is."""
        shown = [one for one in DEFECTS if any(cell.scenario == self.scenario.name for cell in one.shows)]
        return {one.name: one.says for one in shown} if self.comes_with_emu else {}

    def functions(self, platform: Platform) -> Files:
        """Return the functions of Xen that one execution with the default parameters calls, by file.

        Raises:
            ScenarioError: if the scenario cannot be executed.
        """
        others = [name for name in PLATFORMS if name != platform.name]
        return of_xen(called_by(self.scenario.bind({VENDOR: platform.name})), others)

    def data(self) -> dict[str, Any]:
        """Return all that as data."""
        platforms = self.scenario.platforms()
        return {
            "name": self.scenario.name,
            "about": self.about,
            "names": NAMED.findall(self.about),
            "story": list(Told.of(self.scenario).paragraphs),
            "source": self.place,
            "only": dict(self.scenario.only),
            "parameters": self.parameters(),
            "verdicts": {one.name: self.verdicts(one) for one in platforms},
            "no_claim": {one.name: self.unclaimed(one) for one in platforms},
            "functions": {one.name: self.functions(one) for one in platforms},
            "defects": self.defects(),
        }


def reason(row: Row) -> str:
    """Return why a row claims nothing of any revision; empty if it claims something."""
    first, *others = row.verdicts.values()
    return first.unclaimed if all(one.unclaimed for one in others) else ""


@cache
def modelled() -> Mapping[tuple[str, str], Source]:
    """Return the functions and classes that model something of Xen, by file and name."""
    return {(str(ROOT / one.file), one.name): one for one in sources("hypervisor") if one.of_xen}


def of_xen(codes: Iterable[CodeType], other_vendors: Iterable[str]) -> Files:
    """Return the functions of Xen that functions of emu's model, by file, each once and in order.

    Args:
        other_vendors: the vendors whose files do not count: what is shared may model several.
    """
    others = tuple(f"drivers/passthrough/{name}/" for name in other_vendors)
    found: Files = {}
    for code in codes:
        name = code.co_qualname.removesuffix(PERFORM)
        for file, functions in references(modelled().get((code.co_filename, name))):
            listed = found.setdefault(file, [])
            listed += [] if functions in listed else [functions]
    return {file: functions for file, functions in sorted(found.items()) if not file.startswith(others)}


def references(source: Source | None) -> Iterator[tuple[str, str]]:
    """Yield the files of Xen, and what is in them, that a function models."""
    for reference in source.of_xen if source else ():
        for part in reference.split("; "):
            file, _, functions = part.partition(", ")
            yield file, functions or "as a whole"


def lines(shown: ShownScenario) -> Iterator[str]:
    """Yield all that is shown to people."""
    yield f"{shown.scenario.name}  {shown.place}"
    for text in (shown.about, *Told.of(shown.scenario).paragraphs):
        yield filled(text, "  ")
    for vendor, why in shown.scenario.only.items():
        yield filled(f"Only {vendor}: {why}.", "  ")
    yield "\nparameters"
    for one in shown.parameters():
        meaning = f": {one['meaning']}" if "meaning" in one else ""
        yield filled(f"{one['takes']}{meaning}", f"  {'-p ' + one['name'] + '=' + one['default']:<26}  ")
    yield "  and those of every machine, which are at the end of: emu list"
    for platform in shown.scenario.platforms():
        yield f"\ndeclared on {platform.name}"
        yield from (
            filled(summed(of), f"  {cell or 'defaults':<26}  ") for cell, of in shown.verdicts(platform).items()
        )
        yield from (
            filled(f"nothing is claimed {why}", f"  {cell:<26}  ") for cell, why in shown.unclaimed(platform).items()
        )
    for platform in shown.scenario.platforms():
        yield f"\nfunctions of Xen, below xen/, that an execution calls on {platform.name}"
        for file, functions in shown.functions(platform).items():
            yield f"  {file}"
            yield filled("; ".join(functions), "    ")
    if defects := shown.defects():
        yield "\ndefects of the patch, as docs/defects.md has them"
        yield from (filled(says, f"  {name:<4} ") for name, says in defects.items())
    yield ""


def summed(verdicts: Mapping[str, str]) -> str:
    """Return the verdicts of the revisions in short: one that all share once."""
    revisions: dict[str, list[str]] = {}
    for revision, verdict in verdicts.items():
        revisions.setdefault(verdict, []).append(revision)
    if len(revisions) == 1:
        return next(iter(revisions))
    return "; ".join(f"{verdict} on {', '.join(names)}" for verdict, names in revisions.items())

"""All that emu knows of one revision that comes with it: its story, its functions, and the defects that it has."""

import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import attrs

from emu.engine.sources import from_here
from emu.hypervisor.revisions.catalogue import BundledRevision
from emu.hypervisor.revisions.loader import BUNDLED
from emu.reports.explain import filled
from emu.reports.show import references
from emu.reports.sources import sources
from emu.scenarios.defects import DEFECTS

HARMLESS = ("clean", "nothing")


@attrs.frozen
class ShownRevision:
    """A revision, to be shown."""

    revision: BundledRevision

    @property
    def story(self) -> list[str]:
        """The docstring of its package, reflowed, by paragraph."""
        package = import_module(f"emu.hypervisor.revisions.{self.revision.name}")
        return [" ".join(text.split()) for text in (inspect.getdoc(package) or "").split("\n\n")]

    def functions(self) -> dict[str, dict[str, str]]:
        """Return what each of its functions models of Xen, by file."""
        found: dict[str, dict[str, str]] = {}
        for one in sources(f"hypervisor/revisions/{self.revision.name}"):
            if one.of_xen:
                file = found.setdefault(one.file.rpartition("/")[2], {})
                file[one.name] = "; ".join(", ".join(pair) for pair in references(one))
        return found

    def defects(self) -> dict[str, str]:
        """Return the defects of the patch that are declared of it, and what each is."""
        if self.revision.name not in BUNDLED:
            return {}
        column = BUNDLED.index(self.revision.name)
        return {
            one.name: one.says
            for one in DEFECTS
            if any(verdicts[column] not in HARMLESS for _, _, verdicts in one.verdicts())
        }

    def data(self) -> dict[str, Any]:
        """Return all that as data."""
        one = self.revision
        told = {"name": one.name, "story": self.story, "commit": one.commit, "folder": from_here(one.folder)}
        return {**told, "functions": self.functions(), "defects": self.defects()}


def lines(shown: ShownRevision) -> Iterator[str]:
    """Yield all that is shown to people."""
    one = shown.revision
    yield f"{one.name}  {from_here(one.folder)}"
    yield from (filled(text, "  ") for text in shown.story)
    yield filled(f"commit {one.commit} of Xen" if one.commit else "no commit of Xen: posted as a patch", "  ")
    for file, functions in shown.functions().items():
        yield f"\n{file}, and what it models of Xen, below xen/"
        width = max(map(len, functions))
        yield from (filled(xen, f"  {name:<{width}}  ") for name, xen in functions.items())
    if one.name in BUNDLED:
        yield "\ndefects of the patch that it shows, as docs/defects.md has them"
        yield from (filled(says, f"  {name:<4} ") for name, says in shown.defects().items())
    yield ""

"""What `emu check` reports: the findings that are new, undecided or gone, each with the command that shows it again."""

import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs
import cattrs

from emu.errors import printable
from emu.hypervisor.revisions.executed import never_entered, never_executed
from emu.hypervisor.revisions.loader import place_of
from emu.reports.counts import count
from emu.reports.left_out import LEFT_OUT
from emu.running.check import Change, Check, Compared, Difference
from emu.running.earlier import FORMAT, side_data

ORDER = (Change.BREAKS, Change.NEW, Change.UNDECIDED, Change.GONE)


@attrs.frozen
class CheckReport:
    """A finished check, ready to be shown."""

    check: Check

    def differing(self) -> Iterator[Difference]:
        """Yield the differences, certain or possible, the worst first."""
        differing = (one for one in self.check.differences if one.change in ORDER)
        yield from sorted(differing, key=lambda one: ORDER.index(one.change))

    def groups(self) -> Iterator[tuple[Difference, list[Difference]]]:
        """Yield each difference once a scenario, with the same differences in its other cells."""
        groups: dict[tuple[object, ...], list[Difference]] = {}
        for one in self.differing():
            alike = (one.change, one.cell.scenario, one.signature, one.problem, self.beside(one))
            groups.setdefault(alike, []).append(one)
        for first, *others in groups.values():
            yield first, others

    def beside(self, difference: Difference) -> object:
        """Return what the sentence of a difference says besides the finding."""
        if difference.shown is None:
            return self.neither(difference.compared)
        side = self.missing_side(difference) if difference.change is Change.UNDECIDED else ""
        return side, tuple(one.kind for one in difference.instead_of)

    def sentence(self, difference: Difference) -> str:
        """Return a difference as a sentence."""
        head = f"{difference.change.value}: {difference.cell}: "
        if difference.change is Change.BREAKS:
            return head + difference.problem
        if difference.shown is None:
            return head + self.neither(difference.compared)
        said = head + printable(difference.shown.sentence)
        if difference.change is Change.UNDECIDED:
            said += f" ({self.missing_side(difference)} does not show it, and was not executed to the end)"
        for before in difference.instead_of:
            said += f"; instead of: {printable(before.sentence)}"
        return said

    def neither(self, compared: Compared) -> str:
        """Say why a cell that shows nothing is undecided."""
        for side, name in ((compared.base, self.check.base), (compared.ours, self.check.revision)):
            if side.problem is not None:
                return f"nothing is known, because it ends with a mistake on {name}: {side.problem}"
        return "neither shows anything, and at least one was not executed to the end"

    def missing_side(self, difference: Difference) -> str:
        """Name the side that has not shown a finding."""
        is_ours = difference.signature in difference.compared.ours.shown
        return self.check.base if is_ours else self.check.revision

    def command(self, difference: Difference) -> str | None:
        """Return the command that shows a difference again; None where only an earlier result has shown it."""
        check, revision = self.check, self.check.revision
        if difference.change is Change.GONE or (difference.shown and self.missing_side(difference) == revision):
            if check.known is not None:
                return None
            revision = check.base
        return shlex.join(difference.cell.command(revision))

    def summary(self) -> list[str]:
        """Say how many findings are unchanged, how many cells are clean, and what was not tried."""
        check = self.check
        unchanged = [one for one in check.differences if one.change is Change.UNCHANGED]
        cells = dict.fromkeys(str(one.cell) for one in unchanged)
        clean = sum(one.is_clean for one in check.compared)
        same = [f"unchanged: {count(len(unchanged), 'finding')} in {count(len(cells), 'cell')}"] if unchanged else []
        same += [f"clean on both: {count(clean, 'cell')}, all exhausted"] if clean else []
        lines = ["; ".join(same)] if same else []
        cut = sum(not one.is_exhausted for one in check.compared)
        if cut:
            lines.append(f"not executed to the end, on one side or both: {count(cut, 'cell')}")
        if check.deaths:
            lines.append(f"a process died {count(check.deaths, 'time')}, and its cell was executed again")
        if len(check.compared) < len(check.cells):
            lines.append(f"not executed: {count(len(check.cells) - len(check.compared), 'cell')}")
        lines += [*self.left_out(), *self.unexecuted()]
        lines.append(f"not tried: pairs of settings; not modelled: {', '.join(LEFT_OUT)}")
        lines.append(f"{check.revision} against {check.base}: {self.verdict()}")
        return lines

    def left_out(self) -> list[str]:
        """Say which cells are not executed, because a side has nothing of their vendor."""
        return [
            f"left out: {count(len(one.cells), 'cell')} of {one.of}, because there is {one.lacks}"
            for one in self.check.left_out
        ]

    def unexecuted(self) -> list[str]:
        """Name the revision's functions that were never entered, and its changed lines that were never executed."""
        try:
            return self.unexecuted_lines()
        except (OSError, SyntaxError, ValueError) as error:
            return [f"the lines that were not executed are not known: {error}"]

    def unexecuted_lines(self) -> list[str]:
        """Return these lines of the summary.

        Raises:
            OSError, SyntaxError, ValueError: if the revision's files can no longer be read.
        """
        check, folder = self.check, place_of(self.check.revision)
        entered = never_entered(folder, check.executed)
        said = [f"never entered: {', '.join(entered)}"] if entered else []
        if check.known is None:
            lines = never_executed(folder, place_of(check.base), check.executed)
            said += [f"differs and was never executed: {', '.join(lines)}"] if lines else []
        return said

    def verdict(self) -> str:
        """Return the check's result in a few words."""
        found = Counter(one.change for one in self.differing())
        said = ", ".join(f"{number} {change.value}" for change, number in found.items())
        stopped = "stopped before the end; " if self.check.was_stopped else ""
        return stopped + (said or "nothing is new")

    def data(self) -> dict[str, Any]:
        """Return the report as JSON data, which a later `--against` reads."""
        check = self.check
        return {
            "format": FORMAT,
            "revision": check.revision,
            "base": check.base,
            "budget": check.budget,
            "verdict": self.verdict(),
            "not_executed": len(check.cells) - len(check.compared),
            "left_out": self.left_out(),
            "differences": [
                {
                    "change": one.change.value,
                    "cell": str(one.cell),
                    "signature": one.signature,
                    "sentence": self.sentence(one),
                    "reproduce": self.command(one),
                    "instead_of": cattrs.unstructure(one.instead_of),
                }
                for one in self.differing()
            ],
            "unexecuted": self.unexecuted(),
            "cells": {str(one.cell): side_data(one.ours) for one in check.compared},
        }

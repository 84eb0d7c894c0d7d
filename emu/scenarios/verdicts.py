"""Verdicts of the revisions that come with emu, as a table in a scenario's decorator.

    parameters                        | implicit | v1    | merged | flush_on_error
    repaired=true                     | clean
    outer_lock=per-call,across-flush  | clean
    order>0                           | stale    | clean | clean  | clean
    -                                 | stale

The first row of which all conditions hold counts; a dash means no condition. A row with one verdict is about all
revisions. A verdict is `clean`, or the kind of finding that some execution shows, followed by the kinds that may come
with it, after commas. Instead of verdicts a row may say `no claim: REASON`. A remark begins with a `#`.

Each row with a claim is also one or more *cells* of the scenario: one for each value that a condition lists; `name>1`
gives a cell with 2. So the tests execute every such row. A row is about every vendor that has the settings which it
names, unless a condition says `iommu=NAME`, and has cells for each.
"""

import itertools
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import attrs

from emu.errors import ScenarioError
from emu.hypervisor.revisions.loader import ALL_BUNDLED, BUNDLED
from emu.scenarios.expectation import Expectation, no_claim, parse_expectation
from emu.scenarios.parameters import VENDOR, written

OTHERWISE = "-"
NO_CLAIM = "no claim:"


@attrs.frozen
class Condition:
    """A condition on a parameter: that it has one of several values, or is greater than a number.

    Attributes:
        values: the values, as a user writes them; empty where the condition is `above`.
        above: the number that the parameter must exceed.
    """

    name: str
    values: tuple[str, ...] = ()
    above: int = 0

    @classmethod
    def of(cls, text: str) -> "Condition":
        """Parse `name=value,value` or `name>number`.

        Raises:
            ScenarioError: if the text is neither.
        """
        name, equals, values = text.partition("=")
        if equals and name and values:
            return cls(name, tuple(values.split(",")))
        name, _, above = text.partition(">")
        if not (name and above.isdecimal()):
            raise ScenarioError(f"a verdict table asks for {text!r}: write name=value, name=value,value or name>number")
        return cls(name, above=int(above))

    def holds(self, texts: Mapping[str, str]) -> bool:
        """Whether the condition holds for values of parameters, as a user writes them."""
        value = texts.get(self.name, "")
        return value in self.values if self.values else int(value or 0) > self.above

    def __str__(self) -> str:
        return f"{self.name}={','.join(self.values)}" if self.values else f"{self.name}>{self.above}"

    def cells(self) -> tuple[str, ...]:
        """Return parameters, as a user writes them, for which the condition holds."""
        return tuple(f"{self.name}={value}" for value in self.values or (str(self.above + 1),))


@attrs.frozen
class Row:
    """One row: conditions, and the verdict on each revision."""

    conditions: tuple[Condition, ...]
    verdicts: Mapping[str, Expectation]

    @property
    def asked(self) -> str:
        """Its conditions, as they are written in the table."""
        return " ".join(map(str, self.conditions)) or OTHERWISE

    def is_about(self, vendor: str, names: Container[str]) -> bool:
        """Whether the row is about a vendor's machines, which have parameters of these names, and claims something."""
        return self.fits(vendor, names) and not all(one.unclaimed for one in self.verdicts.values())

    def fits(self, vendor: str, names: Container[str]) -> bool:
        """Whether a vendor's machines, which have parameters of these names, can be as the conditions say."""
        return all(one.holds({VENDOR: vendor}) if one.name == VENDOR else one.name in names for one in self.conditions)

    def cells(self) -> Iterator[str]:
        """Yield the parameters of each cell, as a user writes them, without the vendor."""
        chosen = (condition.cells() for condition in self.conditions if condition.name != VENDOR)
        for one in itertools.product(*chosen):
            yield " ".join(one)


@attrs.frozen
class Verdicts:
    """A verdict table."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, text: str) -> "Verdicts":
        """Parse a table.

        Raises:
            ScenarioError: if a line is no row, or the last row has a condition.
        """
        lines = [stripped for line in text.splitlines() if (stripped := line.partition("#")[0].strip())]
        revisions: tuple[str, ...] = BUNDLED
        rows = []
        for line in lines:
            first, *cells = (cell.strip() for cell in line.split("|"))
            if first == "parameters":
                revisions = known_revisions(cells)
                continue
            conditions = () if first == OTHERWISE else tuple(map(Condition.of, first.split()))
            rows.append(Row(conditions, dict(zip(revisions, verdicts_of(line, cells, len(revisions)), strict=True))))
        if not rows or rows[-1].conditions:
            raise ScenarioError(f"a verdict table ends with a row for all other parameters: add one, {OTHERWISE!r}")
        return cls(tuple(rows))

    def __call__(self, *, revision: str, **values: Any) -> Expectation:
        """Return the verdict on a revision for values of parameters."""
        texts = {name: written(value) for name, value in values.items()}
        row = next(row for row in self.rows if all(condition.holds(texts) for condition in row.conditions))
        return row.verdicts.get(revision, no_claim(f"about revision {revision}"))

    def names(self) -> Iterator[str]:
        """Yield the names of the parameters in the conditions."""
        return (condition.name for row in self.rows for condition in row.conditions)

    def cells(self, vendor: str, names: Container[str]) -> tuple[str, ...]:
        """Return the parameters of each cell on a vendor's machines, as a user writes them; the defaults come first.

        Args:
            names: the parameters of the scenario and of these machines.
        """
        found = [cell for row in self.rows if row.is_about(vendor, names) for cell in row.cells()]
        return tuple(dict.fromkeys([*found[-1:], *found]))


def known_revisions(names: Sequence[str]) -> tuple[str, ...]:
    """Return the revisions that a heading names.

    Raises:
        ScenarioError: if a name is of no revision that comes with emu, or is there twice.
    """
    for name in names:
        if name not in ALL_BUNDLED or names.count(name) > 1:
            raise ScenarioError(f"a verdict table has a column {name!r}: name each of {', '.join(ALL_BUNDLED)} once")
    return tuple(names)


def verdicts_of(line: str, cells: Sequence[str], count: int) -> list[Expectation]:
    """Return the verdicts of a row, one for each revision.

    Args:
        count: the number of revisions.

    Raises:
        ScenarioError: if the row has another number of verdicts.
    """
    if len(cells) == 1:
        cells = [cells[0]] * count
    if len(cells) != count:
        raise ScenarioError(f"a verdict table has {len(cells)} verdicts in {line!r}: give one for all, or {count}")
    return [verdict_of(cell) for cell in cells]


def verdict_of(text: str) -> Expectation:
    """Return the expectation that a written verdict states."""
    if text.startswith(NO_CLAIM):
        return no_claim(f"with this setting: {text.removeprefix(NO_CLAIM).strip()}")
    return parse_expectation(text)

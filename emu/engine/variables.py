"""Shared variables: the simplest objects that agents can race for."""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from emu.engine.accesses import Access, Kind
from emu.engine.operations import Operation

Value = TypeVar("Value")

Touches = tuple[Access, ...]


class Variable(Generic[Value]):
    """A variable that every agent can access, each access in one step.

    Args:
        name: unique in its program.
        number: tells the members of a family of that name apart, as in an array.
    """

    __slots__ = ("commuting", "name", "reading", "value", "writing")

    def __init__(self, name: str, value: Value, *, number: int = 0) -> None:
        self.name = name
        self.value = value
        space = ("variable", name)
        self.reading: Touches = (Access.to(space, number, Kind.READ),)
        self.writing: Touches = (Access.to(space, number, Kind.WRITE),)
        self.commuting: Touches = (Access.to(space, number, Kind.COMMUTE),)

    def read(self) -> "Read[Value]":
        """Return the value."""
        return Read(self)

    def write(self, value: Value) -> "Write[Value]":
        """Replace the value."""
        return Write(self, value)

    def compare_and_swap(self, expected: Value, value: Value) -> "CompareAndSwap[Value]":
        """Replace the value if it is the expected one; return whether it was. A failure only reads."""
        return CompareAndSwap(self, expected, value)


class Counter(Variable[int]):
    """A variable that can be added to."""

    __slots__ = ()

    def fetch_and_add(self, amount: int) -> "FetchAndAdd":
        """Add, and return the old value."""
        return FetchAndAdd(self, amount)

    def add(self, amount: int) -> "Add":
        """Add, and return nothing: such additions commute."""
        return Add(self, amount)


class Read(Operation[Value]):
    """Read a variable."""

    __slots__ = ("value", "variable")

    event = "variable.read"

    def __init__(self, variable: Variable[Value]) -> None:
        self.variable = variable

    def accesses(self) -> Touches:
        return self.variable.reading

    def perform(self, step: int) -> Value:
        self.value = self.variable.value
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"variable": self.variable.name, "value": self.value}


class Write(Operation[None], Generic[Value]):
    """Write a variable."""

    __slots__ = ("value", "variable")

    event = "variable.write"

    def __init__(self, variable: Variable[Value], value: Value) -> None:
        self.variable = variable
        self.value = value

    def accesses(self) -> Touches:
        return self.variable.writing

    def perform(self, step: int) -> None:
        self.variable.value = self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"variable": self.variable.name, "value": self.value}


class CompareAndSwap(Operation[bool], Generic[Value]):
    """Replace a value if it is the expected one."""

    __slots__ = ("expected", "has_swapped", "value", "variable")

    event = "variable.cas"

    def __init__(self, variable: Variable[Value], expected: Value, value: Value) -> None:
        self.variable = variable
        self.expected = expected
        self.value = value
        self.has_swapped = False

    def accesses(self) -> Touches:
        return self.variable.writing

    def touched(self) -> Touches:
        return self.variable.writing if self.has_swapped else self.variable.reading

    def perform(self, step: int) -> bool:
        self.has_swapped = self.variable.value == self.expected
        if self.has_swapped:
            self.variable.value = self.value
        return self.has_swapped

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        keys = {"variable": self.variable.name, "value": self.value, "swapped": self.has_swapped}
        return self.event, keys


class FetchAndAdd(Operation[int]):
    """Add to a counter and return its old value."""

    __slots__ = ("amount", "old", "variable")

    event = "variable.fetch_and_add"

    def __init__(self, variable: Counter, amount: int) -> None:
        self.variable = variable
        self.amount = amount
        self.old = 0

    def accesses(self) -> Touches:
        return self.variable.writing

    def perform(self, step: int) -> int:
        self.old = self.variable.value
        self.variable.value += self.amount
        return self.old

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"variable": self.variable.name, "old": self.old, "amount": self.amount}


class Add(Operation[None]):
    """Add to a counter and return nothing."""

    __slots__ = ("amount", "variable")

    event = "variable.add"

    def __init__(self, variable: Counter, amount: int) -> None:
        self.variable = variable
        self.amount = amount

    def accesses(self) -> Touches:
        return self.variable.commuting

    def perform(self, step: int) -> None:
        self.variable.value += self.amount

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"variable": self.variable.name, "amount": self.amount}

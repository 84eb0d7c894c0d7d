"""Per-CPU variables (Xen: DEFINE_PER_CPU): one value on each CPU, each a shared object of its own."""

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from emu.engine import Access, Kind, Operation, Space

T = TypeVar("T")


@attrs.frozen
class PerCpu(Generic[T]):
    """A variable of which every CPU has a value of its own."""

    name: str
    initial: T

    @property
    def space(self) -> Space:
        """The space of its values, numbered by CPU."""
        return ("percpu", self.name)


class ReadPerCpu(Operation[T]):
    """Read the value on one CPU."""

    __slots__ = ("cpu_number", "value", "values", "variable")

    event = "percpu.read"

    def __init__(self, variable: PerCpu[T], cpu_number: int, values: dict[str, Any]) -> None:
        self.variable = variable
        self.cpu_number = cpu_number
        self.values = values

    def accesses(self) -> Iterable[Access]:
        return (Access.to(self.variable.space, self.cpu_number, Kind.READ),)

    def perform(self, step: int) -> T:
        self.value: T = self.values.get(self.variable.name, self.variable.initial)
        return self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"variable": self.variable.name, "value": self.value}


class WritePerCpu(Operation[None]):
    """Write the value on one CPU."""

    __slots__ = ("cpu_number", "value", "values", "variable")

    event = "percpu.write"

    def __init__(self, variable: PerCpu[T], cpu_number: int, values: dict[str, Any], value: T) -> None:
        self.variable = variable
        self.cpu_number = cpu_number
        self.values = values
        self.value = value

    def accesses(self) -> Iterable[Access]:
        return (Access.to(self.variable.space, self.cpu_number, Kind.WRITE),)

    def perform(self, step: int) -> None:
        self.values[self.variable.name] = self.value

    def describe(self) -> tuple[str, Mapping[str, Any]]:
        return self.event, {"variable": self.variable.name, "value": self.value}

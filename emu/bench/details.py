"""How many traces the reference race R1 (remap_before_flush) has, detail by detail."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from emu.engine import Access, Exploration
from emu.engine.dependence import Footprints
from emu.engine.hosts import direct
from emu.engine.sections import Sections
from emu.engine.strategies.optimal import Optimal
from emu.platforms import VTD
from emu.scenarios.library import find

SCENARIO = "remap_before_flush"
EXECUTIONS_MAX = 5_000

View = Callable[[Access], Access]


@attrs.frozen
class ModelDetail:
    """A detail that the model may have or leave out.

    Attributes:
        parameters: the scenario's parameters, besides those that make the machine small.
        view: maps accesses to those of coarser objects.
        is_stepwise: sections under a lock are taken step by step.
    """

    name: str
    parameters: Mapping[str, str] = attrs.field(factory=dict)
    view: View | None = None
    is_stepwise: bool = False


@attrs.frozen
class DetailMeasure:
    """The number of traces with a detail.

    Attributes:
        traces: how many there are, or how many were executed before the exploration was given up.
    """

    name: str
    traces: int
    steps: int
    is_exhausted: bool


def one_object_a_space(access: Access) -> Access:
    """Treat all objects of a space as one: all of memory, all of an IOTLB, all of a ledger."""
    return access._replace(first=0, last=0)


def one_object(access: Access) -> Access:
    """Treat everything as one object: every interleaving is a trace, except for steps that touch nothing."""
    return Access.to(("everything",), 0, access.kind)


DEVICE = {"dma": "1"}
STEPWISE_WALK = {**DEVICE, "walk_at_once": "false"}
ASYNCHRONOUS = {"synchronous": "false"}

DETAILS = (
    ModelDetail("3 levels, synchronous engine, no device"),
    ModelDetail("4 levels", {"levels": "4"}),
    ModelDetail("sections step by step", is_stepwise=True),
    ModelDetail("asynchronous engine", ASYNCHRONOUS),
    ModelDetail("one object for each kind", view=one_object_a_space),
    ModelDetail("one object for everything", view=one_object),
    ModelDetail("a device that reads once", DEVICE),
    ModelDetail("... walking step by step", STEPWISE_WALK),
    ModelDetail("... and an asynchronous engine", {**STEPWISE_WALK, **ASYNCHRONOUS}),
    ModelDetail("... that reads twice", {**STEPWISE_WALK, **ASYNCHRONOUS, "dma": "2"}),
    ModelDetail("order 1", {"order": "1"}),
    ModelDetail("order 1, sections step by step", {"order": "1"}, is_stepwise=True),
    ModelDetail("order 2", {"order": "2"}),
    ModelDetail("order 2, sections step by step", {"order": "2"}, is_stepwise=True),
    ModelDetail("order 2, asynchronous engine", {"order": "2", **ASYNCHRONOUS}),
)


def measure_details(details: Sequence[ModelDetail] = DETAILS) -> Iterator[DetailMeasure]:
    """Explore R1 with each detail."""
    for detail in details:
        exploration = exploration_of(detail)
        for execution in exploration.each():
            direct.run(execution)
            if exploration.executions >= EXECUTIONS_MAX:
                break
        yield DetailMeasure(detail.name, exploration.executions, exploration.steps, exploration.is_exhausted)


def exploration_of(detail: ModelDetail) -> Exploration:
    """Return an exploration of R1 with a detail, not yet begun."""
    bound = find(SCENARIO).bind({**VTD.small, **detail.parameters})
    sections = None if detail.is_stepwise else Sections()
    return Exploration(
        lambda strategy: bound.build().execution(strategy), lambda: Optimal(Footprints(detail.view)), sections
    )

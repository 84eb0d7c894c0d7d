"""Which functions of the hypervisor an execution calls."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

from emu.engine.hosts import direct
from emu.engine.sources import PACKAGE
from emu.engine.strategies.random import RandomStrategy
from emu.errors import LimitReached
from emu.scenarios.scenario import BoundScenario

HYPERVISOR = str(PACKAGE / "hypervisor")


def called_by(bound: BoundScenario) -> list[CodeType]:
    """Return the functions of emu's hypervisor that one random execution of a scenario calls, in order.

    What sets the machine up before the first step does not count. If a limit ends the execution, what was called until
    then is returned.

    Raises:
        ScenarioError: if the scenario cannot be set up or executed.
    """
    execution = bound.build().execution(RandomStrategy.seeded(0))
    found: dict[CodeType, None] = {}
    try:
        with noting_calls(found):
            direct.run(execution)
    except LimitReached:
        pass
    return list(found)


@contextmanager
def noting_calls(found: dict[CodeType, None]) -> Iterator[None]:
    """Note the functions of the hypervisor that are called meanwhile."""

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HYPERVISOR):
            found[frame.f_code] = None

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)

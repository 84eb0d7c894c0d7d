"""Saving the schedule of a scenario that comes with emu."""

from emu.running.run import Run
from emu.running.save import SavedSchedule, schedule_of_run
from emu.scenarios.library import find


def shown(name: str, **parameters: str) -> Run:
    run = Run(find(name).bind(parameters), "random", 0, 1000)
    run.on("direct")
    return run


def saved(name: str = "remap_before_flush", **parameters: str) -> SavedSchedule:
    schedule = schedule_of_run(shown(name, **parameters), name)
    assert schedule is not None
    return schedule

"""The direct host: a plain loop. It exists because sending to a coroutine is ten times cheaper than a task switch."""

from collections.abc import Iterable

from emu.engine.execution import Execution


def run(execution: Execution) -> None:
    """Run one execution to its end.

    Raises:
        EmuError: if it has ended the execution before the agents did.
    """
    try:
        for agent in execution.agents:
            execution.start(agent)
        while (chosen := execution.pick()) is not None:
            execution.step(chosen)
    finally:
        execution.end()


def run_each(executions: Iterable[Execution]) -> None:
    """Run executions one after the other; the iterable is asked for the next once the last has ended."""
    for execution in executions:
        run(execution)

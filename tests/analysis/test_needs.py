"""The orders of steps that a finding needs, in words."""

from emu.analysis.needs import needs
from emu.engine import Agent, Execution, Trace, Variable
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy


def said(name: str) -> str:
    """Return the words for the order of a write and of a read of a variable."""
    variable, trace = Variable(name, 0), Trace()

    async def write() -> None:
        await variable.write(1)

    async def read() -> None:
        await variable.read()

    agents = [Agent(agent, body, {}) for agent, body in (("cpu0", write), ("cpu1", read))]
    direct.run(Execution(agents, RoundRobinStrategy(), trace))
    (text,) = needs(trace, [(1, 2)]).values()
    return text


def test_what_the_first_step_names_the_second_calls_it() -> None:
    assert said("flag") == "cpu0 sets flag to 1 before cpu1 reads it"


def test_a_name_inside_another_word_is_left_alone() -> None:
    assert said("c") == "cpu0 sets c to 1 before cpu1 reads it"

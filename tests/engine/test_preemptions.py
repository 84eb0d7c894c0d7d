"""Preemptions: how many an execution has, and the fewest of all interleavings of its trace."""

import itertools
import random
from collections.abc import Iterator, Sequence

import attrs
import pytest

from emu.engine import Agent, Choose, Execution, Exploration, TicketLock, Trace, Variable
from emu.engine.hosts import direct
from emu.engine.preemptions import Cost, Recorded, TooManyStatesError
from emu.engine.strategies import Strategy
from emu.engine.strategies.along import AlongStrategy, Turn, turns
from emu.engine.strategies.depth_first import DepthFirst

LOCK = ("lock", "lock")

Plan = tuple[tuple[str, str], ...]
"""What an agent does: it reads or writes a variable, or writes it under the lock."""


@attrs.frozen
class Ended:
    """An execution that has ended.

    Attributes:
        could: before each step, the agents that could go on.
    """

    trace: Trace
    agents: Sequence[Agent]
    could: list[tuple[str, ...]]

    @property
    def names(self) -> list[str]:
        return [agent.name for agent, _ in self.trace.performed()]

    def cost(self, goal: int) -> Cost:
        """Count from what the scheduler saw, and not from the trace."""
        free = {agent.name for agent in self.agents if agent.is_daemon}
        preemptions, going, names = 0, "", self.names[:goal]
        for name, could in zip(names, self.could, strict=False):
            if name not in free:
                preemptions += going not in {"", name} and going in could
                going = name
        return Cost(preemptions, sum(one != other for one, other in itertools.pairwise(names)), goal)

    def step_of(self, agent: str, place: int) -> int:
        """Return the step that is an agent's step of this number."""
        return [step for step, name in enumerate(self.names, start=1) if name == agent][place - 1]

    def orders(self, *, of_lock: bool) -> list[list[str]]:
        """Return the order of the steps on each object; reads between two writes in any order."""
        events = [event for event in self.trace.events() if event.name.startswith("variable.")]
        found = []
        for variable in "xy":
            order: list[str] = []
            reads: list[str] = []
            for event in events:
                if event.fields["variable"] == variable:
                    if event.name == "variable.read":
                        reads.append(event.agent.name)
                    else:
                        order += [*sorted(reads), f"write by {event.agent.name}"]
                        reads = []
            found.append([*order, *sorted(reads)])
        tickets = [event.agent.name for event in self.trace.events() if event.name in {"lock.ticket", "lock.contend"}]
        return [*found, tickets] if of_lock else found


@attrs.define
class Watching:
    """Keeps who could go on before each step."""

    inner: Strategy
    could: list[tuple[str, ...]] = attrs.field(factory=list)

    def pick(self, enabled: Sequence[Agent]) -> Agent | None:
        names = tuple(agent.name for agent in enabled)
        picked = self.inner.pick(enabled)
        self.could.append(names)
        return picked

    def choose(self, choice: Choose) -> int:
        return self.inner.choose(choice)


def program(plans: Sequence[Plan], strategy: Strategy, daemon: str = "") -> Execution:
    """Make agents a, b, ..., of which one may be an engine."""
    lock, variables = TicketLock("lock"), {name: Variable(name, 0) for name in "xy"}

    def agent(name: str, plan: Plan) -> Agent:
        async def act() -> None:
            for what, variable in plan:
                if what == "read":
                    await variables[variable].read()
                elif what == "write":
                    await variables[variable].write(1)
                else:
                    async with lock.held_by(name):
                        await variables[variable].write(2)

        return Agent(name, act, {}, is_daemon=name == daemon)

    agents = [agent(name, plan) for name, plan in zip("abc", plans, strict=False)]
    return Execution(agents, strategy, Trace(sources=True))


def every(plans: Sequence[Plan], daemon: str = "") -> Iterator[Ended]:
    """Yield every interleaving of a program."""
    watching: list[Watching] = []

    def watched(strategy: Strategy) -> Execution:
        watching.append(Watching(strategy))
        return program(plans, watching[-1], daemon)

    for execution in Exploration(watched, DepthFirst).each():
        direct.run(execution)
        yield Ended(execution.trace, execution.agents, watching[-1].could)


def drawn(seed: int) -> list[Plan]:
    """Return a small program."""
    chance = random.Random(seed)
    lengths = ((2, 2), (1, 1, 1), (3, 1))[seed % 3]
    draw = [("read", "write", "locked"), ("read", "write")][seed % 2]
    return [tuple((chance.choice(draw), chance.choice("xy")) for _ in range(length)) for length in lengths]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("unordered", [(), (LOCK,)])
def test_the_cheapest_interleaving_that_reaches_a_step_is_as_cheap_as_the_cheapest_of_all(
    seed: int, unordered: tuple[tuple[str, str], ...]
) -> None:
    daemon = "b" if seed % 4 == 3 else ""
    all_of_them, chance = list(every(drawn(seed), daemon)), random.Random(seed)
    chosen = chance.choice(all_of_them)
    goal = chance.randrange(1, chosen.trace.step + 1)
    recorded = Recorded.of(chosen.trace, chosen.agents, unordered)
    assert recorded.cost(goal) == chosen.cost(goal)
    same = [one for one in all_of_them if one.orders(of_lock=not unordered) == chosen.orders(of_lock=not unordered)]
    agent, place = chosen.names[goal - 1], recorded.order.place(goal)
    expected = min(one.cost(one.step_of(agent, place)) for one in same)
    best = recorded.best(goal)
    assert best is not None
    assert best[0] == expected
    assert recorded.best(goal, expected) is None
    again = program(drawn(seed), AlongStrategy(turns(chosen.names[step - 1] for step in best[1])), daemon)
    direct.run(again)
    assert Recorded.of(again.trace, again.agents, unordered).cost(len(best[1])) == expected


def test_the_steps_of_an_engine_are_no_preemptions_and_hide_none() -> None:
    plans: list[Plan] = [(("read", "x"),) * 2, (("read", "x"),), (("read", "x"),)]
    for ended in every(plans, daemon="b"):
        if ended.names == ["a", "b", "c", "a"]:
            recorded = Recorded.of(ended.trace, ended.agents)
            assert [recorded.cost(goal).preemptions for goal in range(5)] == [0, 0, 0, 1, 1]
            assert list(recorded.preempting(4)) == [3]


def test_an_agent_that_has_to_wait_is_not_preempted() -> None:
    plans: list[Plan] = [(("locked", "x"),), (("locked", "x"),)]
    waited = next(one for one in every(plans) if one.names == ["a", "b", "a", "a", "a", "b", "b", "b"])
    assert list(Recorded.of(waited.trace, waited.agents).preempting(8)) == [2]


def test_a_search_that_would_look_at_too_many_prefixes_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = next(every([(("read", "x"),) * 3, (("read", "y"),) * 3]))
    recorded = Recorded.of(ended.trace, ended.agents)
    monkeypatch.setattr("emu.engine.preemptions.STATES_MAX", 5)
    with pytest.raises(TooManyStatesError):
        recorded.best(ended.trace.step)


def test_a_plan_is_followed_as_far_as_it_goes_and_then_nobody_is_preempted() -> None:
    plans: list[Plan] = [(("locked", "x"),), (("locked", "x"), ("read", "y")), (("read", "y"),)]
    execution = program(plans, AlongStrategy(turns("aabcbb")))
    direct.run(execution)
    assert "".join(agent.name for agent, _ in execution.trace.performed()) == "aabc" + "aa" + "bbbb"


def test_an_agent_that_goes_on_ahead_of_its_turns_has_these_steps_behind_it() -> None:
    plans: list[Plan] = [(("read", "x"),) * 3, (("read", "x"),) * 3]
    strategy = AlongStrategy([*turns("a"), Turn("a", 1), *turns("b"), Turn("a", None), *turns("abb")])
    execution = program(plans, strategy)
    direct.run(execution)
    assert "".join(agent.name for agent, _ in execution.trace.performed()) == "aabab" + "b"

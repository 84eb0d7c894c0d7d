"""The mistakes of a scenario's author before anything runs, and in the arguments of a call: one sentence each."""

from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest
import trio

from emu import CLEAN, Cpu, Dfn, Machine, ScenarioError, scenario
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.errors import ModelError
from emu.machine.description import Description
from emu.running.run import Run
from emu.scenarios.parameters import parameters_of


class Numbers(Enum):
    """A user writes texts, so no value of these."""

    ONE = 1


class Words(Enum):
    """A user can write each."""

    ONE = "one"


def takes(kind: object, default: object) -> Callable[..., None]:
    """Return a scenario's function with one parameter."""

    def mine(m: Machine, *, x: Any = default) -> None: ...

    mine.__annotations__["x"] = kind
    return mine


@pytest.mark.parametrize(
    ("kind", "default"),
    [(list, []), (int, "text"), (int, True), (bool, 1), (str, 0), (float, 0.5), (Numbers, Numbers.ONE), (Words, "one")],
)
def test_a_parameter_that_no_user_can_write_or_whose_default_is_of_another_type_is_refused(
    kind: object, default: object
) -> None:
    with pytest.raises(ScenarioError, match=r"^mine: .*parameter x "):
        scenario(expect=CLEAN)(takes(kind, default))


@pytest.mark.parametrize(("kind", "default"), [(int, 3), (bool, False), (str, "text"), (Words, Words.ONE)])
def test_a_parameter_that_a_user_can_write_is_taken(kind: object, default: object) -> None:
    (parameter,) = parameters_of(takes(kind, default))
    assert (parameter.kind, parameter.default) == (kind, default)


def test_a_scenario_that_takes_no_machine_is_refused() -> None:
    def mine() -> None: ...

    with pytest.raises(ScenarioError, match="mine takes no machine: write def mine"):
        scenario(expect=CLEAN)(mine)


def test_a_decorator_without_its_parentheses_is_refused() -> None:
    with pytest.raises(ScenarioError, match="@scenario stands without parentheses"):

        @scenario
        def mine(m: Machine) -> None: ...


async def unmap(m: Machine, cpu: Cpu, frame: Any) -> None:
    await m.hypervisor.unmap(cpu, m.domains[1], frame)


async def map_(m: Machine, cpu: Cpu, frame: Any) -> None:
    await m.hypervisor.map(cpu, m.domains[1], Dfn(1), frame)


async def flush(m: Machine, cpu: Cpu, frame: Any) -> None:
    await m.hypervisor.flush(cpu, m.domains[1], frame, pages=1)


async def read(m: Machine, cpu: Cpu, frame: Any) -> None:
    await m.devices["00:1f.0"].read(frame)


def called(call: Callable[..., Any], frame: object) -> None:
    """Have a CPU make a call with a frame."""
    machine = Machine(Description())
    machine.domain(1, devices=("00:1f.0",))
    machine.cpu(0).runs(lambda_of(call, machine, frame))
    direct.run(machine.execution(RoundRobinStrategy()))


def lambda_of(call: Callable[..., Any], machine: Machine, frame: object) -> Callable[..., Any]:
    async def body(cpu: Cpu) -> None:
        await call(machine, cpu, frame)

    return body


@pytest.mark.parametrize("call", [unmap, map_, flush, read])
@pytest.mark.parametrize("frame", ["0x10", 1.5, None, True])
def test_a_value_that_is_no_frame_number_is_refused_at_its_line(call: Callable[..., Any], frame: object) -> None:
    with pytest.raises(ModelError, match=r"^the [dm]fn .* is no frame number: write [DM]fn\(0x10\)"):
        called(call, frame)


@pytest.mark.parametrize("call", [unmap, map_, flush, read])
def test_a_plain_whole_number_is_a_frame_number(call: Callable[..., Any]) -> None:
    called(call, 16)


@pytest.mark.parametrize("fails", [False, True])
def test_one_cpu_by_itself_is_refused_whatever_its_findings(fails: bool) -> None:
    def lone(m: Machine) -> None:
        @m.cpu(0)
        async def only(cpu: Cpu) -> None:
            await cpu.load64(8)
            assert not fails

    with pytest.raises(ScenarioError, match="in lone nothing runs concurrently"):
        Run(scenario(expect=CLEAN)(lone).bind({}), "random", 0, 1).on("direct")


async def opens_scope(cpu: Cpu) -> None:
    trio.CancelScope().__enter__()
    await cpu.load64(8)


async def opens_nursery(cpu: Cpu) -> None:
    await trio.open_nursery().__aenter__()
    await cpu.load64(8)


async def has_scope(cpu: Cpu) -> None:
    with trio.CancelScope():
        await cpu.load64(8)


def run_on_trio(body: Callable[[Cpu], Any], strategy: str) -> Run:
    def mine(m: Machine) -> None:
        m.cpu(0).runs(body)
        m.cpu(1).runs(has_scope)

    run = Run(scenario(expect=CLEAN)(mine).bind({}), strategy, 0, 1)
    run.on("trio")
    return run


@pytest.mark.parametrize("strategy", ["random", "free"])
@pytest.mark.parametrize("body", [opens_scope, opens_nursery])
def test_an_agent_that_leaves_a_scope_of_trio_open_is_named(body: Callable[[Cpu], Any], strategy: str) -> None:
    said = "cpu0 has ended with a Trio nursery or scope open: write `with` or `async with`"
    assert str(run_on_trio(body, strategy).failure) == said


@pytest.mark.parametrize("strategy", ["random", "free"])
def test_an_agent_that_closes_its_scopes_is_taken(strategy: str) -> None:
    assert run_on_trio(has_scope, strategy).failure is None

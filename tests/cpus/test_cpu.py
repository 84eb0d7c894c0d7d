"""CPUs: their variables, softirqs and hypercalls, and the signals that they send to each other."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from emu.cpus import Cpu, PerCpu, Signal
from emu.engine import Access, Agent, Choose, Execution, Kind, Operation, Trace, Waiter
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.memory import Memory

Body = Callable[[Cpu], Coroutine[Any, Any, None]]

FLAG = PerCpu("flag", initial=7)


def cpu_of(number: int = 0) -> Cpu:
    return Cpu(number, Memory(), Trace())


def announced(coroutine: Coroutine[Any, Any, object]) -> Operation[Any]:
    """Return what somebody awaits first."""
    operation = coroutine.send(None)
    coroutine.close()
    assert isinstance(operation, Operation)
    return operation


def run(*bodies: Body) -> Execution:
    """Run CPUs 0, 1, ... in turns, with what each is to do."""
    trace, memory = Trace(), Memory()
    cpus = [Cpu(number, memory, trace) for number in range(len(bodies))]
    agents = [Agent(cpu.name, partial(body, cpu), {"cpu": cpu.number}) for cpu, body in zip(cpus, bodies, strict=True)]
    execution = Execution(agents, RoundRobinStrategy(), trace)
    direct.run(execution)
    return execution


def names(execution: Execution) -> list[str]:
    return [event.name for event in execution.trace.events()]


def events(execution: Execution, name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return agent and keys of the events of one name."""
    return [(event.agent.name, dict(event.fields)) for event in execution.trace.events() if event.name == name]


def step() -> Choose:
    return Choose("nothing", 1)


async def fail() -> None:
    await step()
    raise ValueError("within")


def handler(log: list[str], name: str) -> Body:
    """Return a softirq that notes when it begins and when it ends."""

    async def handle(cpu: Cpu) -> None:
        log.append(f"{name} begins")
        await step()
        log.append(f"{name} ends")

    handle.__name__ = name
    return handle


def test_a_cpu_is_named_by_its_number() -> None:
    assert cpu_of(3).name == "cpu3"


def test_a_variable_that_was_never_written_has_its_initial_value() -> None:
    read: list[int] = []

    async def body(cpu: Cpu) -> None:
        read.append(await cpu.read(FLAG))

    run(body)
    assert read == [7]


def test_every_cpu_has_its_own_value_of_a_variable() -> None:
    read: dict[str, int] = {}

    def writing(value: int) -> Body:
        async def body(cpu: Cpu) -> None:
            await cpu.write(FLAG, value)
            await step()
            read[cpu.name] = await cpu.read(FLAG)

        return body

    run(writing(1), writing(2), writing(3))
    assert read == {"cpu0": 1, "cpu1": 2, "cpu2": 3}


def test_a_write_changes_one_variable_only() -> None:
    read: list[int] = []

    async def body(cpu: Cpu) -> None:
        await cpu.write(FLAG, 1)
        read.append(await cpu.read(PerCpu("other", initial=9)))

    run(body)
    assert read == [9]


def test_a_read_and_a_write_of_a_variable_touch_the_cpu_s_own_object() -> None:
    cpu = cpu_of(2)
    read: Coroutine[Any, Any, int] = cpu.read(FLAG)
    assert tuple(announced(read).accesses()) == (Access.to(("percpu", "flag"), 2, Kind.READ),)
    assert tuple(announced(cpu.write(FLAG, 1)).accesses()) == (Access.to(("percpu", "flag"), 2, Kind.WRITE),)


def test_reads_and_writes_of_a_variable_are_logged_with_the_value() -> None:
    async def body(cpu: Cpu) -> None:
        await cpu.write(FLAG, 5)
        await cpu.read(FLAG)

    execution = run(body)
    assert events(execution, "percpu.write") == [("cpu0", {"variable": "flag", "value": 5})]
    assert events(execution, "percpu.read") == [("cpu0", {"variable": "flag", "value": 5})]


def test_peek_and_poke_take_no_step() -> None:
    async def body(cpu: Cpu) -> None:
        cpu.poke(FLAG, 4)
        assert cpu.peek(FLAG) == 4

    assert run(body).trace.step == 0


def test_softirqs_run_on_the_way_out_of_a_hypercall_oldest_first() -> None:
    log: list[str] = []

    async def body(cpu: Cpu) -> None:
        async with cpu.hypercall("map"):
            cpu.raise_softirq(handler(log, "one"))
            cpu.raise_softirq(handler(log, "two"))
            await step()
            log.append("body ends")
        log.append("hypercall is over")

    run(body)
    assert log == ["body ends", "one begins", "one ends", "two begins", "two ends", "hypercall is over"]


def test_softirqs_that_a_softirq_raises_run_too() -> None:
    log: list[str] = []

    async def raising(cpu: Cpu) -> None:
        cpu.raise_softirq(handler(log, "raised"))
        await step()
        log.append("raising ends")

    async def body(cpu: Cpu) -> None:
        async with cpu.hypercall("map"):
            cpu.raise_softirq(raising)
            cpu.raise_softirq(handler(log, "older"))
        assert not cpu.softirqs

    run(body)
    assert log == ["raising ends", "older begins", "older ends", "raised begins", "raised ends"]


def test_a_softirq_runs_once() -> None:
    log: list[str] = []

    async def body(cpu: Cpu) -> None:
        for _ in range(2):
            async with cpu.hypercall("map"):
                if not log:
                    cpu.raise_softirq(handler(log, "one"))

    run(body)
    assert log == ["one begins", "one ends"]


def test_softirqs_run_on_the_cpu_that_raised_them_only() -> None:
    log: list[str] = []

    async def raising(cpu: Cpu) -> None:
        cpu.raise_softirq(handler(log, "one"))
        await step()

    async def other(cpu: Cpu) -> None:
        await step()
        await cpu.process_pending_softirqs()

    run(raising, other)
    assert log == []


def test_softirqs_do_not_run_when_the_body_of_a_hypercall_raises() -> None:
    log: list[str] = []

    async def body(cpu: Cpu) -> None:
        try:
            async with cpu.hypercall("map"):
                cpu.raise_softirq(handler(log, "one"))
                await fail()
        except ValueError:
            log.append("the hypercall raised")
        assert len(cpu.softirqs) == 1

    run(body)
    assert log == ["the hypercall raised"]


def test_softirqs_can_be_processed_at_any_time() -> None:
    log: list[str] = []

    async def body(cpu: Cpu) -> None:
        cpu.raise_softirq(handler(log, "one"))
        await cpu.process_pending_softirqs()
        log.append("later")

    run(body)
    assert log == ["one begins", "one ends", "later"]


def test_softirqs_are_logged_by_the_name_of_their_handler() -> None:
    async def body(cpu: Cpu) -> None:
        await step()
        async with cpu.hypercall("map"):
            cpu.raise_softirq(handler([], "tidy"))

    execution = run(body)
    assert events(execution, "softirq.raise") == [("cpu0", {"handler": "tidy"})]
    assert events(execution, "softirq.run") == [("cpu0", {"handler": "tidy"})]


def test_a_hypercall_is_logged_from_its_entry_to_its_exit() -> None:
    async def body(cpu: Cpu) -> None:
        await cpu.write(FLAG, 1)
        async with cpu.hypercall("map"):
            await step()
        await cpu.write(FLAG, 2)

    execution = run(body)
    assert names(execution) == ["percpu.write", "hypercall.enter", "choice", "hypercall.exit", "percpu.write"]
    assert events(execution, "hypercall.enter") == [("cpu0", {"hypercall": "map"})]
    assert events(execution, "hypercall.exit") == [("cpu0", {"hypercall": "map"})]


def test_a_hypercall_that_an_agent_begins_with_is_logged_too() -> None:
    async def body(cpu: Cpu) -> None:
        async with cpu.hypercall("map"):
            await step()

    assert events(run(body, body), "hypercall.enter") == [
        ("cpu0", {"hypercall": "map"}),
        ("cpu1", {"hypercall": "map"}),
    ]


def test_the_exit_of_a_hypercall_that_raises_is_logged() -> None:
    async def body(cpu: Cpu) -> None:
        with suppress(ValueError):
            async with cpu.hypercall("map"):
                await fail()

    assert names(run(body)) == ["hypercall.enter", "choice", "hypercall.exit"]


def test_a_hypercall_gives_its_cpu() -> None:
    async def body(cpu: Cpu) -> None:
        async with cpu.hypercall("map") as serving:
            assert serving is cpu
            await step()

    assert run(body).trace.step == 1


def test_accesses_to_memory_are_logged_under_the_name_and_with_the_keys_they_are_given() -> None:
    async def body(cpu: Cpu) -> None:
        await cpu.store64(0x1000, 5, "pte.write", dfn=3)
        assert await cpu.load64(0x1000, "pte.read", dfn=3) == 5

    execution = run(body)
    assert names(execution) == ["pte.write", "pte.read"]
    assert all(keys["dfn"] == 3 for name in ("pte.write", "pte.read") for _, keys in events(execution, name))


def test_all_cpus_see_one_memory() -> None:
    loaded: list[int] = []

    async def storing(cpu: Cpu) -> None:
        await cpu.store64(0x1000, 5)

    async def loading(cpu: Cpu) -> None:
        await step()
        loaded.append(await cpu.load64(0x1000))

    run(storing, loading)
    assert loaded == [5]


def test_waiting_for_a_signal_is_disabled_until_it_is_sent() -> None:
    signal = Signal("done")
    latch = announced(signal.wait()).waits_for
    assert latch is not None
    assert not latch.is_set
    announced(signal.send()).perform(1)
    assert latch.is_set


def test_a_signal_wakes_everyone_who_waits() -> None:
    signal = Signal("done")
    order: list[str] = []

    async def waits(cpu: Cpu) -> None:
        await signal.wait()
        order.append(cpu.name)

    async def sends(cpu: Cpu) -> None:
        await step()
        order.append(cpu.name)
        await signal.send()

    execution = run(waits, waits, sends)
    assert order == ["cpu2", "cpu0", "cpu1"]
    assert execution.deadlock is None


def test_a_signal_that_was_sent_before_is_not_missed() -> None:
    signal = Signal("done")

    async def sends(cpu: Cpu) -> None:
        await signal.send()

    async def waits(cpu: Cpu) -> None:
        await step()
        await step()
        await signal.wait()

    assert run(sends, waits).deadlock is None


def test_sending_a_signal_is_logged() -> None:
    async def sends(cpu: Cpu) -> None:
        await Signal("done").send()

    assert events(run(sends), "signal.send") == [("cpu0", {"signal": "done"})]


def test_a_deadlock_tells_which_signal_is_missing() -> None:
    async def waits(cpu: Cpu) -> None:
        await Signal("done").wait()

    deadlock = run(waits).deadlock
    assert deadlock is not None
    assert deadlock.waiters == (Waiter("cpu0", "the signal 'done'", 0, None, None),)


def test_sending_a_signal_conflicts_with_waiting_for_it_and_no_other() -> None:
    done, other = Signal("done"), Signal("other")
    (sent,), (awaited,), (unrelated,) = (
        announced(step).accesses() for step in (done.send(), done.wait(), other.wait())
    )
    assert sent.conflicts(awaited)
    assert not sent.conflicts(unrelated)

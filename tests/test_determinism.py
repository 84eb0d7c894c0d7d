"""The same schedule gives the same bytes: on both hosts, under every hash seed, on every Python."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emu.engine import Event, Execution
from emu.engine.hosts import direct
from emu.engine.hosts import trio as on_trio
from emu.engine.strategies.random import RandomStrategy
from emu.machine.machine import Machine
from emu.scenarios.library import bundled, find
from emu.scenarios.scenario import BoundScenario

DIGESTS = Path(__file__).parent / "digests.json"
"""SHA-256 of logs without source lines, by the arguments of `emu run`; `python tests/test_determinism.py` renews it."""


def at_order(name: str, order: int) -> BoundScenario:
    scenario = find(name)
    names = {parameter.name for parameter in scenario.parameters}
    values = {"order": str(order)} if "order" in names else {}
    if any(parameter.name == "failing_page" for parameter in scenario.parameters):
        values["failing_page"] = str((1 << order) - 1)
    if any(parameter.name == "dma" for parameter in scenario.parameters):
        values["dma"] = "2"
    return scenario.bind(values)


def rendered(event: Event) -> tuple[object, ...]:
    return (event.step, event.agent.name, event.name, tuple(event.fields.items()))


def pair(bound: BoundScenario, seed: int) -> tuple[tuple[Machine, Execution], tuple[Machine, Execution]]:
    first, second = bound.build(), bound.build()
    return (
        (first, first.execution(RandomStrategy.seeded(seed))),
        (second, second.execution(RandomStrategy.seeded(seed))),
    )


def has_order(name: str) -> bool:
    return any(parameter.name == "order" for parameter in find(name).parameters)


SIZES = [
    (name, order, seeds)
    for name in sorted(bundled())
    for order, seeds in [(0, 10), (1, 10), (2, 10), (9, 1)]
    if order == 0 or has_order(name)
]


@pytest.mark.parametrize(("name", "order", "seeds"), SIZES)
def test_both_hosts_leave_the_same_trace(name: str, order: int, seeds: int) -> None:
    bound = at_order(name, order)
    pairs = [pair(bound, seed) for seed in range(seeds)]
    direct.run_each(execution for (_, execution), _ in pairs)
    on_trio.run_each(execution for _, (_, execution) in pairs)
    for (one, _), (other, _) in pairs:
        assert one.trace.step == other.trace.step
        assert [rendered(event) for event in one.trace.events()] == [rendered(event) for event in other.trace.events()]
        assert one.findings == other.findings


def log_of(arguments: str, path: Path, hash_seed: str = "0") -> bytes:
    command = [sys.executable, "-m", "emu", "run", *arguments.split(), "--log", str(path)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": hash_seed})
    return path.read_bytes()


def test_the_log_does_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    arguments = "remap_before_flush -p dma=8 --executions 1000"
    logs = [log_of(arguments, tmp_path / seed, seed) for seed in ("1", "2")]
    assert logs[0] == logs[1]
    assert b'"source":"emu/hypervisor/revisions/v1/' in logs[0]


def digest(log: bytes) -> str:
    lines = [json.loads(line) for line in log.splitlines()]
    kept = [{key: value for key, value in line.items() if key not in {"format", "source", "message"}} for line in lines]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


@pytest.mark.parametrize("arguments", sorted(json.loads(DIGESTS.read_text())))
def test_the_log_is_the_committed_one(arguments: str, tmp_path: Path) -> None:
    committed = json.loads(DIGESTS.read_text())[arguments]
    log = log_of(arguments, tmp_path / "log")
    assert digest(log) == committed, "renew with `python tests/test_determinism.py`, and say why in the commit"


def renew() -> None:
    path = DIGESTS.with_suffix(".log")
    digests = {arguments: digest(log_of(arguments, path)) for arguments in json.loads(DIGESTS.read_text())}
    path.unlink()
    DIGESTS.write_text(json.dumps(digests, indent=2) + "\n")


if __name__ == "__main__":
    renew()

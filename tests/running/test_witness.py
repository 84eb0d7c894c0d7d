"""Witnesses: an access that is appended to a schedule."""

from pathlib import Path

from emu.devices.device import Commit
from emu.engine.hosts import direct
from emu.engine.strategies.round_robin import RoundRobinStrategy
from emu.running.add_witness import with_witness
from emu.running.read import read
from emu.running.replay import Replay
from emu.scenarios.library import find
from emu.units import Dfn
from tests.running.saved import saved


def test_a_witness_does_not_change_the_numbers_of_its_devices_other_accesses() -> None:
    machine = find("remap_before_flush").bind({"dma": "2"}).build()
    machine.add_witness("00:1f.0", Dfn(0x1000))
    direct.run(machine.execution(RoundRobinStrategy()))
    made = [
        (agent.name, operation.request.number & 0xFFFF_FFFF)
        for agent, operation in machine.trace.performed()
        if isinstance(operation, Commit)
    ]
    assert sorted(made) == [("00:1f.0", 0), ("00:1f.0", 1), ("00:1f.0 (witness)", 1 << 31)]


def test_a_witness_turns_possible_into_observed(tmp_path: Path) -> None:
    schedule = saved("map_same_frame_before_flush")
    repeated = Replay.of(str(schedule.write(tmp_path)), None, {})
    witnessed = with_witness(repeated, repeated.run("direct"))
    for host in ("direct", "trio"):
        run = witnessed.run(host)
        assert run.reported is not None
        (finding,) = run.reported.findings
        assert finding.use is not None  # type: ignore[union-attr]  # it is a stale translation
    assert read(str(witnessed.saved.write(tmp_path))) == witnessed.saved

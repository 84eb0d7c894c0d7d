"""The registers that say which tables translate for a stream: what they say now, and what they have ever said."""

from collections.abc import Callable
from math import inf

import pytest

from emu.checks.findings import Finding
from emu.cpus import Cpu
from emu.errors import ScenarioError
from emu.hypervisor.smmu.assignment import bank_writes
from emu.iommus.paths import UNTRANSLATED, Tables
from emu.iommus.smmu.formats import S2CR_BYPASS, S2CR_FAULT, S2CR_TRANSLATE, encode_smr
from emu.iommus.smmu.queue import ALL
from emu.iommus.smmu.registers import BANKS, CBA2R, CBAR, S2CR, SCTLR, SMR, TTBCR, TTBR0_HIGH, TTBR0_LOW, untranslated
from emu.machine.machine import Machine
from emu.units import Maddr
from tests.smmu import bank_of, enter, registers_of, settle, smmu_machine, store, stream_of, unit_of, vmid

Execute = Callable[..., list[Finding]]

NIC, DISK = "00:1f.0", "00:02.0"
NIC_ID = 0xF8
FREE = 7
"""The number of a stream match register that no device uses."""


def two_domains() -> Machine:
    """Return a machine with two domains, each with a device."""
    machine = smmu_machine()
    machine.domain(1, devices=(NIC,))
    machine.domain(2, devices=(DISK,))
    return machine


def now(machine: Machine, stream_id: int = NIC_ID) -> Tables | None:
    """Return the tables that the registers name for a stream."""
    registers = registers_of(machine)
    return registers.snapshot(stream_id, registers.value)[0]


def of_domain(machine: Machine, domain: int) -> Tables:
    return Tables(vmid(machine, domain), machine.domains[domain].pgd, 3)


# What they say now


def test_a_stream_is_translated_by_the_tables_of_the_bank_that_its_register_names() -> None:
    machine = two_domains()
    assert now(machine) == of_domain(machine, 1)
    enter(machine, registers_of(machine).s2cr(stream_of(machine, NIC)), S2CR_TRANSLATE | bank_of(machine, 2))
    assert now(machine) == of_domain(machine, 2)


def test_registers_lie_where_the_architecture_has_them() -> None:
    registers = registers_of(two_domains())
    places = (registers.smr(3), registers.s2cr(3), registers.cbar(3), registers.cba2r(3))
    assert [place - registers.base for place in places] == [0x80C, 0xC0C, 0x100C, 0x180C]
    assert (SMR, S2CR, CBAR, CBA2R) == (0x800, 0xC00, 0x1000, 0x1800)
    assert (SCTLR, TTBR0_LOW, TTBR0_HIGH, TTBCR) == (0x0, 0x20, 0x24, 0x30)
    assert registers.of_bank(3, TTBCR) - registers.base == 0x5030


def test_both_halves_of_ttbr0_name_the_table_and_its_low_bits_do_not() -> None:
    machine = two_domains()
    bank, registers = bank_of(machine, 1), registers_of(machine)
    enter(machine, registers.of_bank(bank, TTBR0_LOW), 0x8000_1FFF)
    enter(machine, registers.of_bank(bank, TTBR0_HIGH), 0xFFFF_00AB)
    assert now(machine) == of_domain(machine, 1)._replace(root=Maddr(0xAB_8000_1000))


def test_the_vmid_of_a_bank_is_the_low_eight_bits_of_its_attribute_register() -> None:
    machine = two_domains()
    enter(machine, registers_of(machine).cbar(bank_of(machine, 1)), 0x0F42)
    assert now(machine) == of_domain(machine, 1)._replace(tag=0x42)


def test_a_stream_that_matches_no_register_faults() -> None:
    assert now(two_domains(), 0xF9) is None


def test_a_stream_faults_from_the_reset_on_though_a_register_matches_it_until_its_s2cr_says_otherwise() -> None:
    machine = two_domains()
    enter(machine, registers_of(machine).smr(FREE), encode_smr(0x123))
    assert now(machine, 0x123) is None


def test_a_register_whose_mask_leaves_out_a_bit_matches_both_streams() -> None:
    machine = two_domains()
    enter(machine, registers_of(machine).smr(stream_of(machine, NIC)), encode_smr(NIC_ID, 0x0001))
    assert now(machine, NIC_ID) == now(machine, NIC_ID + 1) == of_domain(machine, 1)
    assert now(machine, NIC_ID + 2) is None


@pytest.mark.parametrize("asked", [S2CR_TRANSLATE, S2CR_BYPASS])
def test_a_stream_that_matches_two_registers_faults_though_both_say_the_same(asked: int) -> None:
    machine = two_domains()
    registers = registers_of(machine)
    for stream in (stream_of(machine, NIC), FREE):
        enter(machine, registers.smr(stream), encode_smr(NIC_ID))
        enter(machine, registers.s2cr(stream), asked | bank_of(machine, 1))
    assert now(machine) is None
    enter(machine, registers.smr(FREE), 0)
    assert now(machine) is not None


@pytest.mark.parametrize(
    ("control", "found"),
    [
        (S2CR_BYPASS, untranslated()),
        (S2CR_BYPASS | 1, untranslated()),
        (S2CR_FAULT, None),
        (S2CR_FAULT | 1, None),
        (3 << 16, None),
        (S2CR_TRANSLATE | BANKS, None),
    ],
)
def test_a_stream_of_another_type_passes_or_faults_and_one_of_a_bank_that_is_not_there_faults(
    control: int, found: Tables | None
) -> None:
    machine = two_domains()
    enter(machine, registers_of(machine).s2cr(stream_of(machine, NIC)), control)
    assert now(machine) == found


def test_a_stream_of_a_bank_that_is_not_enabled_passes_untranslated() -> None:
    machine = two_domains()
    enter(machine, registers_of(machine).of_bank(bank_of(machine, 1), SCTLR), 0)
    assert now(machine) == untranslated()
    assert untranslated().tag == UNTRANSLATED
    assert unit_of(machine).lets_through(NIC_ID)
    assert not unit_of(machine).lets_through(machine.devices[DISK].source_id)


def test_a_device_on_a_bus_from_0x80_on_has_a_stream_id_that_is_too_wide() -> None:
    machine = smmu_machine()
    machine.plug("7f:1f.7")
    with pytest.raises(ScenarioError, match="does not fit into 15 bits"):
        machine.plug("80:00.0")


# What they have ever said


def run(execute: Execute, machine: Machine, *writes: tuple[Maddr, int] | int) -> list[int]:
    """Have a CPU store to registers and invalidate, one after another, and return the step of each store and of each
    invalidation's begin.
    """

    @machine.cpu(0)
    async def cpu(cpu: Cpu) -> None:
        for one in writes:
            if isinstance(one, tuple):
                await store(machine, *one)
            else:
                await settle(machine, one)

    execute(machine)
    return [event.step for event in machine.trace.events() if event.name in {"stream.write", "invalidate.begin"}]


def fault(machine: Machine) -> tuple[Maddr, int]:
    return registers_of(machine).s2cr(stream_of(machine, NIC)), S2CR_FAULT


def test_tables_that_were_never_replaced_translate_from_the_first_step_on() -> None:
    machine = two_domains()
    assert unit_of(machine).tables_ever(NIC_ID) == [of_domain(machine, 1)]


def test_a_replaced_setting_has_ended_when_the_next_one_was_stored(execute: Execute) -> None:
    machine = two_domains()
    register, _ = fault(machine)
    translated = [(register, S2CR_TRANSLATE | bank_of(machine, number)) for number in (2, 1)]
    first, second = run(execute, machine, *translated)
    one, other = of_domain(machine, 1), of_domain(machine, 2)
    assert registers_of(machine).lifetimes(NIC_ID) == [(one, second, inf), (other, first, second), (one, 0, first)]


def test_a_store_that_says_the_same_begins_no_new_lifetime(execute: Execute) -> None:
    machine = two_domains()
    registers = registers_of(machine)
    same = (registers.s2cr(stream_of(machine, NIC)), S2CR_TRANSLATE | bank_of(machine, 1))
    of_another = (registers.s2cr(stream_of(machine, DISK)), S2CR_FAULT)
    run(execute, machine, same, of_another, same)
    assert registers.lifetimes(NIC_ID) == [(of_domain(machine, 1), 0, inf)]


def until(machine: Machine) -> float:
    """Return the step from which no walk for the device may use the tables of domain 1."""
    tables = unit_of(machine).tables_ever(NIC_ID)
    return next(one.until for one in tables if one.root == machine.domains[1].pgd)


def test_a_change_of_registers_alone_lets_requests_go_on_that_were_accepted_before(execute: Execute) -> None:
    machine = two_domains()
    run(execute, machine, fault(machine))
    assert now(machine) is None
    assert until(machine) == inf


@pytest.mark.parametrize("of", ["vmid", "all"])
def test_an_invalidation_of_the_vmid_or_of_all_that_began_after_the_change_ends_that(execute: Execute, of: str) -> None:
    machine = two_domains()
    _, begun = run(execute, machine, fault(machine), vmid(machine, 1) if of == "vmid" else ALL)
    assert until(machine) == begun


def test_one_of_another_vmid_or_that_began_before_the_change_does_not(execute: Execute) -> None:
    machine = two_domains()
    run(execute, machine, vmid(machine, 1), fault(machine), vmid(machine, 2))
    assert until(machine) == inf


def test_the_first_of_several_ends_it(execute: Execute) -> None:
    machine = two_domains()
    _, _, begun, _ = run(execute, machine, vmid(machine, 1), fault(machine), vmid(machine, 1), vmid(machine, 1))
    assert until(machine) == begun


def test_an_invalidation_ends_nothing_before_it_has_completed(execute: Execute) -> None:
    machine = two_domains()
    seen: list[tuple[str, float]] = []

    @machine.cpu(0)
    async def cpu(cpu: Cpu) -> None:
        await store(machine, *fault(machine))
        await settle(machine, vmid(machine, 1))

    @machine.cpu(1)
    async def asker(cpu: Cpu) -> None:
        while not (seen and seen[-1][1] < inf):
            await cpu.load64(Maddr(0))
            last = [event.name for event in machine.trace.events() if event.name.startswith("invalidate")][-1:]
            seen.append(("".join(last), until(machine)))

    execute(machine)
    assert {name for name, end in seen if end == inf} == {"", "invalidate.begin"}
    assert {name for name, end in seen if end < inf} == {"invalidate.complete"}


@pytest.mark.parametrize("tag", [1, 2])
def test_tables_of_which_another_stream_finds_what_is_cached_are_found_too(execute: Execute, tag: int) -> None:
    machine = two_domains()
    enter(machine, registers_of(machine).cbar(bank_of(machine, 2)), tag)
    found = unit_of(machine).tables_found(NIC_ID)
    assert found == [of_domain(machine, 1), of_domain(machine, 2)._replace(tag=tag)]


def test_tables_under_a_vmid_that_no_stream_uses_any_more_are_not_looked_for_by_their_root(execute: Execute) -> None:
    machine = two_domains()
    root = machine.domains[1].pgd
    assert unit_of(machine).tables_at(root) == [of_domain(machine, 1)]
    run(execute, machine, fault(machine), vmid(machine, 1))
    assert unit_of(machine).tables_at(root) == []


def test_a_bank_is_enabled_by_the_last_of_the_drivers_stores(execute: Execute) -> None:
    machine = smmu_machine()
    domain, registers = machine.domain(1), registers_of(machine)
    enter(machine, registers.smr(FREE), encode_smr(NIC_ID))
    enter(machine, registers.s2cr(FREE), S2CR_TRANSLATE | 2)
    writes = [(address, value) for address, value, _ in bank_writes(registers, 2, domain, 32)]
    *_, last = run(execute, machine, *writes)
    assert registers.lifetimes(NIC_ID) == [(Tables(3, domain.pgd, 3), last, inf), (untranslated(), 0, last)]

"""Xen's console: what a function without a result can tell (Xen: include/xen/lib.h, printk)."""

from emu.cpus import Cpu
from emu.hypervisor.records import open_call


def printk(cpu: Cpu, text: str) -> None:
    """Log a failure. By that a call without a result tells of those that have happened so far."""
    cpu.note("console.print", text=text)
    record = cpu.peek(open_call)
    if record is not None:
        record.logged = list(record.failures)

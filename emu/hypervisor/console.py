"""Xen's console: what a function without a result can tell (Xen: include/xen/lib.h, printk)."""

from emu.cpus import Cpu
from emu.hypervisor.records import open_call


def printk(cpu: Cpu, text: str) -> None:
    """Log a failure. A function without a result has told of its failures by that."""
    cpu.note("console.print", text=text)
    record = cpu.peek(open_call)
    while record is not None:
        record.is_logged = True
        record = record.outer

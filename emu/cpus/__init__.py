"""Physical CPUs: per-CPU variables, spinlocks, signals, softirqs and hypercalls.

percpu.py    variables with one value on each CPU
spinlock.py  ticket locks
tlb.py       when what CPUs have cached of a domain's tables was last dropped
signal.py    what one CPU tells others once
cpu.py       a CPU: its accesses, its softirqs, the hypercalls that it serves
"""

from emu.cpus.cpu import BootCode, Cpu, Hypercall
from emu.cpus.percpu import PerCpu
from emu.cpus.signal import Signal
from emu.cpus.spinlock import SpinLock

__all__ = ["BootCode", "Cpu", "Hypercall", "PerCpu", "Signal", "SpinLock"]

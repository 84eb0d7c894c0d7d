"""Physical CPUs: per-CPU variables, spinlocks, signals, softirqs and hypercalls."""

from emu.cpus.cpu import Cpu, Hypercall
from emu.cpus.percpu import PerCpu
from emu.cpus.signal import Signal
from emu.cpus.spinlock import SpinLock

__all__ = ["Cpu", "Hypercall", "PerCpu", "Signal", "SpinLock"]

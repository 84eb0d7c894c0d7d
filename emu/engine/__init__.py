"""Controlled concurrency for coroutines. This package knows no hardware.

accesses.py     which shared objects are touched, and how
latches.py      conditions that become true once; an agent can wait for nothing else
operations.py   what an agent awaits: one preemptible step, with the objects that it touches
agents.py       agents, which take the steps
claims.py       a user's statements about a program, and where they do not hold
execution.py    one run: who is enabled, one step, deadlock, limits
failures.py     how an agent's own code ends an execution
hosts/          what drives an execution: a plain loop, or one Trio task for each agent
strategies/     which agent goes next
dependence.py   which steps depend on one another
preemptions.py  how many preemptions an execution has, and how few an interleaving of its trace can have
happens_before.py the order that all interleavings of a trace have in common
search.py       the protocol of a strategy that serves one execution after the other, until nothing is left
exploration.py  every execution of a program, as a search asks for them
variables.py, locks.py, sections.py  shared objects for any protocol, and the steps under a lock
atomic.py       several operations in one step
watchdog.py     notices an agent that awaits nothing
foreign.py      code of the user's that takes no step
never_awaited.py notices a call that was never awaited
trace.py        what happened, step by step
schedules.py    the decisions of an execution, from which it can be repeated
sources.py      the source lines at which an agent is suspended
"""

from emu.engine.accesses import Access, Kind, Space
from emu.engine.agents import Agent
from emu.engine.claims import Broken, Claim, Claims
from emu.engine.execution import Deadlock, Execution, Limits, Waiter
from emu.engine.exploration import Exploration
from emu.engine.latches import Latch
from emu.engine.locks import TicketLock
from emu.engine.operations import Choose, Operation, Wait
from emu.engine.schedules import Schedule
from emu.engine.strategies import Strategy
from emu.engine.trace import Event, Trace
from emu.engine.variables import Counter, Variable

__all__ = [
    "Access",
    "Agent",
    "Broken",
    "Choose",
    "Claim",
    "Claims",
    "Counter",
    "Deadlock",
    "Event",
    "Execution",
    "Exploration",
    "Kind",
    "Latch",
    "Limits",
    "Operation",
    "Schedule",
    "Space",
    "Strategy",
    "TicketLock",
    "Trace",
    "Variable",
    "Wait",
    "Waiter",
]

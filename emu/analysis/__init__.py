"""Analyses of the trace of an execution that has ended.

windows.py       how long a replaced entry could still be used, and what flushes cost
cycles.py        how many cycles steps take
flushes.py       the agent that submitted each flush, and why a flush did not remove an entry
waits.py         waits for a flush that were given up, or ended before the flush had completed
judged.py        how often each check was asked
explanations.py  the change, the flush and the caller behind a stale translation
needs.py         the orders of steps that a finding needs, in words
relevant.py      the steps that matter to a finding, and how much
source_lines.py  the line of source for a step
"""

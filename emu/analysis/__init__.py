"""What a trace tells about an execution that has ended.

windows.py       how long a replaced entry could still be used, and what flushes cost
cycles.py        how many cycles steps take
flushes.py       who submitted each invalidation, and why one did not remove an entry
waits.py         how a wait for a flush was given up, or ended before the flush had completed
judged.py        what the checks were asked
explanations.py  the change, the flush and the caller behind a stale translation
source_lines.py  the line of source for a step
"""

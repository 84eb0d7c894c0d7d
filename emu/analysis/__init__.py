"""What a trace tells about an execution that has ended.

windows.py       how long a replaced entry could still be used, and what flushes cost
cycles.py        how many cycles steps take
explanations.py  the change, the flush and the caller behind a stale translation
source_lines.py  the line of source for a step
"""

"""Measures: the counts of a search, and the cost of a search and of a step.

benchmark.py  programs whose number of traces is known
library.py    finds benchmarks, and their programs by name
timing.py     the best times of calls that are compared
programs.py   a search over a benchmark, against a plain loop over the same schedules
steps.py      one step on each host, against a bare loop that does the same
checks.py     the checks of a step, against the whole exploration
details.py    how many traces the reference race R1 has, detail by detail
"""

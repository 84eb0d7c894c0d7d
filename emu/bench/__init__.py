"""Measures: what a search counts, and what it and a single step cost.

benchmark.py  programs whose number of traces is known
library.py    where benchmarks are found, and their programs by name
timing.py     the best time of things that are compared
programs.py   a search over a benchmark, against a plain loop over the same schedules
steps.py      one step on each host, against a bare loop that does the same
checks.py     the checks of a step, against the whole exploration
details.py    how many traces the reference race R1 has, detail by detail
"""

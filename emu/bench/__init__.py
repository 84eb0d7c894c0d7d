"""Measures: what a search counts, and what it and a single step cost.

timing.py    the best time of things that are compared
programs.py  a search over a benchmark, against a plain loop over the same schedules
steps.py     one step on each host, against a bare loop that does the same
"""

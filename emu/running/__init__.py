"""Executions of a scenario: run, explore, replay, confirm, save.

executions.py    what a run and an exploration have in common: one execution after the other, and what ends them
run.py           one execution a seed, until the declared finding shows
exploration.py   every trace once: plan.py is what is asked for, coverage.py what was executed
repetition.py    one execution twice: its events, and whether they happen again
sampling.py      executions drawn at random, and how many traces they are
causes.py        what an exploration finds, each signature once
confirm.py       repeats on both hosts what was found, with a witness where that is possible
verdict.py       what one execution, a run and an exploration tell of what was declared
save.py read.py  a schedule becomes a file or a token, and comes back; digests.py is which code it is about
replay.py        a saved schedule with its code, once more
witness.py       an access that is appended to a schedule; add_witness.py appends it to a replay
cells.py         a cell - a scenario, parameters, a revision - goes in, what it shows comes out as data
check.py         a revision against a base, cell by cell; earlier.py reads what an earlier check has found
strict.py        turns what a file holds into values, strictly
"""

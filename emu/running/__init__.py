"""Executions of a scenario: run, explore, replay, confirm, save.

executions.py    the base of a run and an exploration: one execution after the other, until something ends them
run.py           one execution a seed, until the declared finding shows
exploration.py   every trace once: plan.py holds the options, coverage.py counts the executions
repetition.py    one execution twice: its events, and whether they happen again
sampling.py      random executions, and the number of their traces
story.py         what is known of a schedule that was made smaller
causes.py        the findings of an exploration, by signature
confirm.py       repeats findings on both hosts, with a witness where that is possible
verdict.py       the verdicts on one execution, on a run and on an exploration
save.py read.py  write a schedule as a file or a token, and read it back; digests.py names the code that it needs
replay.py        repeats a saved schedule with its code
witness.py       an access that is appended to a schedule; add_witness.py appends it to a replay
cells.py         explores a cell - a scenario with parameters - on a revision; the findings come back as data
check.py         compares a revision with a base, cell by cell; earlier.py reads the result of an earlier check
cost.py          counts what the flushes of a call cost
strict.py        converts JSON into values, without any coercion
"""

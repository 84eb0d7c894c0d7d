"""Checks: what software promised, held against what hardware may do. They read, and never change what they judge.

kinds.py       the kinds of findings
findings.py    what a check has to report: one class for each kind
details.py     what a finding says besides its kind
told.py        those of them that are about what a call did to the tables and said of it
used.py        those that are about an access that should not have been made
promises.py    what a call promises by its return, and what a deferred call owes at the end of its hypercall
results.py     whether a call's result says what has happened, and whether it did that and nothing else
assignments.py what must hold when a device has changed its domain
releases.py    what must hold when a frame is freed or gets a new owner
isolation.py   by whose tables a frame may be reached: its owner's, and those of whom the owner lets map it
usage.py       what devices really use: observed evidence, late and foreign accesses, the emulator's check of itself
status.py      status words: none is written into a frame that was freed after software had asked for it
signatures.py  what makes two findings, of whatever executions, one and the same
"""

"""Checks: the promises of software, held against what hardware may do. A check reads, and never changes what it judges.

kinds.py       the kinds of findings
findings.py    findings: one class for each kind
details.py     parts of findings: evidence, payment, act
told.py        the findings about a call's changes of the tables, and its result
stored.py      the findings about a store
used.py        the findings about an access
promises.py    the promise that a call makes by its return; a deferred call owes it until its hypercall ends
results.py     whether a call has done what its result says, and nothing else
assignments.py whether a unit may still use the old tables of a device that has changed its domain
releases.py    whether a frame is out of reach when it is freed or gets a new owner
isolation.py   whether a frame is reached only by tables of its owner, or of domains that the owner lets map it
torn.py        whether an entry that is stored in halves leads elsewhere between
break_before_make.py  whether an entry takes the place of another one that a walker may still use
usage.py       the accesses of devices: observed evidence, late and foreign accesses, the emulator's check of itself
status.py      the status words that units write
none.py        no checks, for a machine that only counts
signatures.py  signatures: equal for findings of any executions that are the same
"""

"""One machine: memory, units, CPUs, devices, domains and checks, wired together for one execution.

claims.py       a scenario's claims, and the objects that they read
description.py  a machine's parts and settings
domains.py      which domains there can be
frames.py       frames that there are before the first step, and where they are mapped
machine.py      the machine, with the methods by which a scenario sets it up
role.py         gives a CPU or a device the function that it runs
units.py        what the units of a machine have in common
"""

"""One machine: memory, units, CPUs, devices, domains and checks, wired together for one execution.

claims.py       what a scenario claims, and of which objects
description.py  what a machine is made of
machine.py      the machine, with the methods by which a scenario sets it up
role.py         gives a CPU or a device the function that it runs
"""

"""Hosts drive the coroutines of an execution: on one plain loop, or each in a Trio task of its own.

direct.py  a plain loop
trio.py    a Trio task for each agent, one of which goes at a time
free.py    the same tasks without turns: Trio decides who goes next
"""

"""Scenarios: what they are. The bundled ones stand in the folder `scenarios` at the top level.

scenario.py     a function that sets a machine up, with its parameters and its declaration
parameters.py   what `-p NAME=VALUE` takes
expectation.py  what a scenario declares: a kind of finding, or that it is clean
verdicts.py     a table of the verdicts on each revision that comes with emu
library.py      finds scenarios, by name or in a user's file
"""

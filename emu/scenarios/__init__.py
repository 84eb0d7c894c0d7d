"""What a scenario is. The bundled scenarios are in the folder `scenarios` at the top level.

scenario.py     a function that sets a machine up, with its parameters and its declaration
parameters.py   the parameters that `-p NAME=VALUE` sets
expectation.py  the declaration of a scenario: a kind of finding, or clean
verdicts.py     a table of the verdicts on each revision that comes with emu
defects.py      the defects of the seed patch: what shows each
library.py      finds scenarios, by name or in a user's file
"""

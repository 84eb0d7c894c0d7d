"""Hosts drive the coroutines of an execution: on one plain loop, or each in a Trio task of its own."""

"""Software: domains, the wrappers that map, unmap and flush, and the drivers behind them.

What no revision of the wrappers changed stands in this folder; each revision has a folder of its own.
"""

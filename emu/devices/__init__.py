"""Devices: what a PCI function does when it accesses memory.

device.py  DMA: look a page up, walk, fill, access; posted writes
"""

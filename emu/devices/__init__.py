"""Devices: PCI functions that access memory.

device.py  DMA: look a page up, walk, fill, access; posted writes
"""

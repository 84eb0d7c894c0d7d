"""Revision flush_on_error: merged, since a map or unmap that fails halfway flushes by itself (0229adb138, 2020)."""

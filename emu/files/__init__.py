"""Files that a user names, and files that emu writes.

bounded.py   reading: regular files only, and never more of one than its sort may hold
whole.py     writing: whole or not at all, and never more than emu reads back
"""

"""Xen's wrappers and drivers' hooks at different commits: a folder each, with the same files and the same functions.

loader.py        loads a revision: one of those below, or a folder of the user's
executed.py      which lines of a revision are executed
catalogue.py     the revisions below, each with its story and its commit
implicit/        before the seed patch
v1/              the seed patch, as it was posted
merged/          the seed patch, as it was merged
flush_on_error/  merged, with one later repair
today/           Xen today, for machines that the seed patch does not know
"""

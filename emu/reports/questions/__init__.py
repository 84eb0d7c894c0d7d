"""What `emu log` answers beyond its filters. A question makes rows of the records of a log, execution by execution.

A row is a record of its own: it has the keys of the records it was made of, so the filters choose among rows, too.

answer.py        the answer to filters and a question, and what is said besides
table.py         questions, their rows, and the tables that fit 80 columns
executions.py    the records of a log, one execution after the other
page.py          what happened to a page
owed.py          what deferred calls owe, and which flush paid it
lock_holders.py  who held a lock, and who waited
windows.py       the windows, the longest first
summary.py       how many events, agents and findings there are
chosen.py        the columns that a user chooses
"""

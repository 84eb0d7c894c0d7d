"""What people see: the vocabulary of events, structured logs, and findings in words.

vocabulary.py   every event and every key of a log, with its meaning
log.py          a trace as a structured log; reading.py reads one back and filters it
findings.py     each finding as a sentence, and as data; stale.py has the sentences of stale translations
judged.py       what the checks were asked
claims.py       what is claimed, in words
left_out.py     what no proof is about
counts.py       numbers with their nouns
run.py exploration.py check.py bench.py  what these commands report; junit.py is a check as JUnit
"""

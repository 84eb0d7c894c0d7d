"""What people see: the vocabulary of events, structured logs, and findings in words.

vocabulary.py   every event and every key of a log, with its meaning
log.py          a trace as a structured log; reading.py reads one back and filters it
recorded.py     one execution of a log, checked; spans.py has its calls, locks, flags and windows
timeline/       an execution as a page for a browser; exports/ for the viewers of others
findings.py     each finding as a sentence, and as data; stale.py has the sentences of stale translations
judged.py       what the checks judged, as a clause
claims.py       the claim about a scenario, in words
left_out.py     what the model leaves out, as a clause
counts.py       numbers with their nouns
defects.py      the table of defects; sources.py the table of sources, both as pages of the documentation
run.py exploration.py check.py bench.py cost.py  the reports of these commands; junit.py writes a check as JUnit
"""

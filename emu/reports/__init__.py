"""What people see: the vocabulary of events, structured logs, and findings in words and in columns.

vocabulary.py   every event and every key of a log, with its meaning
log.py          a trace as a structured log; reading.py reads one back and filters it
findings.py     each finding as a sentence, and as data; stale.py has the sentences of stale translations
finding_report.py  the report of a finding: headlines.py has its first line, fact.py what a fact is, facts.py the facts
                of each kind, stale_facts.py those of stale translations; version.py says which emu has made it
columns.py      an interleaving as a table, a column for each agent; step_texts.py says what each step did
judged.py       what the checks judged, as a clause
claims.py       the claim about a scenario, in words
left_out.py     what the model leaves out, as a clause
counts.py       numbers with their nouns
defects.py      the table of defects; sources.py the table of sources, both as pages of the documentation
run.py exploration.py check.py bench.py cost.py  the reports of these commands; junit.py writes a check as JUnit
"""

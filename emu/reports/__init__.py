"""What people see: the vocabulary of events, structured logs, and findings in words and in columns.

vocabulary.py   every event and every key of a log, with its meaning; occurrences.py where each occurs
glossary.py     what each kind of finding is about, and a race that shows it; explain.py says all three
log.py          a trace as a structured log; key_types.py gives each key one type
reading.py      reading a log back; filters.py chooses among its records, questions/ makes tables of them
schedule.py     a saved schedule, for somebody who took it for a log
recorded.py     one execution of a log, checked; spans.py has its calls, locks, flags and windows
timeline/       an execution as a page for a browser; exports/ for the viewers of others
stepping.py     a replay between two steps: agents, locks, promises; translations.py has tables and IOTLBs
breaks.py       at which steps such a replay stops
steps.py        what a log or a schedule tells of each step; parting.py where two part, diff.py says it
findings.py     each finding as a sentence, and as data; stale.py has the sentences of stale translations
schedule_facts.py  what is told of the schedule that shows a finding
finding_report.py  the report of a finding: headlines.py has its first line, fact.py what a fact is, facts.py the facts
                of each kind, stale_facts.py those of stale translations; version.py says which emu has made it
columns.py      an interleaving as a table, a column for each agent; step_texts.py says what each step did
judged.py       what the checks judged, as a clause
claims.py       the claim about a scenario, in words
left_out.py     what the model leaves out, as a clause
counts.py       numbers with their nouns
show.py         all about one scenario; show_revision.py about one revision
defects.py      the table of defects; sources.py the table of sources, both as pages of the documentation
run.py exploration.py check.py bench.py cost.py  the reports of these commands; junit.py writes a check as JUnit
whole_words.py  fills lines without breaking a word
"""

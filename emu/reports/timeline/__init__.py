"""The timeline of an execution as one HTML page that needs nothing else.

data.py   lanes, events, spans and marks as plain data, `emu-timeline-1`: everything that is computed
lanes.py  the lanes, and the row of each span in its lane
page.py   the page: data, styles and scripts in one file, under a policy that allows no others
page.html page.css  its frame and its looks
model.js  what the page selects and filters; draw.js draws it; page.js answers keys and pointer
"""

"""An execution for the viewers of others.

perfetto.py  trace events in JSON, which Perfetto and Chrome show
signals.py   the values that change from step to step; vcd.py writes them for a viewer of waveforms
"""

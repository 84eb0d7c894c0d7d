"""emu: finds, proves and explains stale-IOTLB races.

Layers, each of which knows only those before it: units, errors < engine < memory < cpus < iommus < devices <
hypervisor < checks < boot, machine, scenario, library, runs, saved, replays < reports < cli.
"""

"""Turns what is there and what a pass did into the state of a cluster: health, phase, conditions, Events.

Pure. May import plan, documents and api. Open `compute.py` first, then `assess.py`.
"""

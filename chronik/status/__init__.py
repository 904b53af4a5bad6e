"""What is there and what a pass did, to how a cluster is: health, phase, conditions, Events.

Pure. May import plan, documents and api. Open `compute.py` first, then `assess.py`.
"""

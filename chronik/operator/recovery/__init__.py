"""Recovery of new clusters from backups: what a pass does before it applies any workload.

What is to be done is decided in `chronik.backups.recovery`, which is pure. Open `recover.py` first.
"""

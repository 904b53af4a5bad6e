"""Recovery of a new cluster from a backup, pure: which backup, whether it can be done, and what is to be done next.

Open `plan.py` first.
"""

"""What the operator does about backups: passes over ChronikBackups, and what schedules want in a cluster's pass.

What is to be done is decided in `chronik.backups`, which is pure. Open `reconcile.py` first.
"""

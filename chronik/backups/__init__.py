"""Backups, pure: when one is due, what it consists of and what is to be done next, and which may go.

May import everything that is pure below it. Open `plan.py` first.
"""

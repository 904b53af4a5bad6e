"""Federations, pure: what each member gets, who gets a change next, and how all of them are.

May import everything that is pure below it. Open `plan.py` first.
"""

"""How the operator makes the aliases that clusters name, tells where they lead, and takes them away.

May import apply, status, plan and api. Open `tend.py` first.
"""

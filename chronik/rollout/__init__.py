"""Decides how pods are replaced where the operator has a say in it: which one first, and how far a canary goes.

Pure. May import status, plan and api. Open `facts.py` first, then `order.py`.
"""

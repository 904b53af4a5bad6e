"""The hub: what the operator does about ChronikFederations, and the connections to their members.

What is to be done is decided in `chronik.federation`, which is pure. Open `reconcile.py` first.
"""

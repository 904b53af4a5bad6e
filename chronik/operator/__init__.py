"""The long-running operator: it watches, queues, reconciles, and reports.

May import everything but cli. Open `reconcile.py` first: one pass in five steps.
"""

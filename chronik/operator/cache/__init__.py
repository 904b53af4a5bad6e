"""What the operator knows of the cluster it runs in: one list and watch a kind, packed into memory.

Open `cache.py` first.
"""

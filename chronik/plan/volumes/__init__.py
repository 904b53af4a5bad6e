"""Volumes that grow under running pods: which sizes have to change, and how a StatefulSet is created anew for it.

May import plan. Open `sizes.py` first.
"""

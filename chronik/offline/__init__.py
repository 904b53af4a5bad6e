"""Files in, files out: everything that works without a cluster, wired together.

May import render, status, plan, documents and api. Open `loading.py` first.
"""

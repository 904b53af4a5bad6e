"""What `spec.replication` means: the mirrors of a cluster, and the loops that several clusters would make.

May import what `api` may. Open `mirrors.py` first.
"""

"""The commands about mirrors: what they are like, and the probe that runs beside each.

May import what `cli` may. Open `status.py` first.
"""

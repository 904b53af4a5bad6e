"""The probe beside a mirror: it measures how far the copy is behind its source, end to end, and says so over HTTP.

May import the root modules. Open `measure.py` first: it decides. Brokers are read in `heartbeats`; HTTP is `server`.
"""

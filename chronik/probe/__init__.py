"""The probe beside a mirror: it measures how far the copy is behind its source, and what of it lacks, over HTTP.

May import the root modules and `api`. Open `measure.py` first: it decides. Brokers are read in `heartbeats` and
`compare`; HTTP is `server`.
"""

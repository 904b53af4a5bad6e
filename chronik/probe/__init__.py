"""The probe beside a mirror: it measures how far the copy is behind its source, end to end, and says so over HTTP.

It may import what the operator may. Start with `measure`, which decides; `heartbeats` reads, `server` answers.
"""

"""Compares what is wanted with what is there, and returns what to do: actions as data; nothing is sent here.

Pure. May import api and chronik's own modules. Open `planner.py` first, then `actions.py`.
"""

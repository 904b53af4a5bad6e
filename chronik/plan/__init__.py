"""What is wanted beside what is there, to what has to be done: actions as data; nothing is sent here.

Pure. May import api and chronik's own modules. Open `planner.py` first, then `actions.py`.
"""

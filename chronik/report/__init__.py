"""Words, tables and JSON about all of it, for people and programs.

Pure. May import status, render, plan, documents and api. Open `page.py` first, then the report of a command.
"""

"""The command line: options in, one call, a report out, an exit code.

May import everything. Open `main.py` first; each command has a module of its own.
"""

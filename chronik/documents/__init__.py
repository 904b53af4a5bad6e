"""Text to data and back: YAML and JSON as kubectl reads them, with the place of every value, and one way to write them.

Pure. May import api and chronik's own modules. Open `reader.py` first.
"""

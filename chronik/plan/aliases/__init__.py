"""Aliases: Services that lead to one of several clusters: what becomes of them, and whether one may be switched.

May import plan and api. Open `services.py` first.
"""

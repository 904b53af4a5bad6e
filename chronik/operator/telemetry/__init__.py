"""How the operator is seen from outside: logs, metrics, spans, Events, probes.

Open `metrics.py` first.
"""

"""Asks a Prometheus about the metrics of canaries: a query (`prometheus`), and all of them, beside passes (`analyst`).

A package of its own because what is asked is no API server. What an answer means, `chronik.rollout.analysis` decides.
"""

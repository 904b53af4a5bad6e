"""The shapes of the larger sections of a ChronikCluster's spec, as `api/spec.py` has those of the rest."""

"""What a ChronikCluster may say: its types, its schema, its rules, and the CRD and reference page made from them.

Pure. May import chronik's own modules only. Open `spec.py` first, then `validation.py`.
"""

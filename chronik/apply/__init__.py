"""Read a cluster, carry a plan out, wait until it is ready: the engine of the command line and the operator.

May import kube, status, render, plan and api. Open `executor.py` first, then `converge.py`.
"""

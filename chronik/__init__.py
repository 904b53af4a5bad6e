"""chronik turns one ChronikCluster document into every Kubernetes object that runs it, and keeps them so.

Start at `reconcile.py`: the whole product in one function. What a cluster may be is in `spec.py` and `schema/`;
how it becomes manifests is in `render.py` beside one file of `templates/`; what has to change is decided in `plan.py`.
Everything but assets, kube, apply, reconcile, operator and cli is pure: no network, disk, clock, environment, printing.
"""

__version__ = "0.1.0"

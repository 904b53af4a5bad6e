"""chronik turns one ChronikCluster document into every Kubernetes object that runs it, and keeps them so.

Six files, one a folder, show the whole: `operator/reconcile.py` (one pass, in five steps), `api/spec.py` (what a
cluster may be), `render/cluster.py` (how it becomes manifests), `plan/planner.py` (what has to change),
`apply/executor.py` (how that is sent), `status/compute.py` (how a cluster is). Packages import downwards only;
tests/house/test_layers.py has the table.
"""

__version__ = "0.1.0"

"""A valid cluster to manifests: templates whose values are bound, not spliced.

Pure. May import documents, plan and api. Open `cluster.py` first, beside `templates/statefulset.yaml.j2`.
"""

"""A valid cluster to manifests: templates whose values are bound, not spliced.

Pure. May import documents, plan and api. Open `cluster.py` first, beside `templates/statefulset.yaml.j2`.
What a field of the spec is called in a template: its path, such as `spec.storage.size`, or `component.replicas` for
what `api/components.py` gathers by component (`ingestNodes`, `image.ingest`, …).
"""

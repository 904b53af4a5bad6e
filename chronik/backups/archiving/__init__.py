"""The archive of a metastore's log, as far as it is not rendered: what is left of it when it ends.

A package of its own, as it is planned for clusters and not for backups.
"""

"""The data plane of backups: streams between a metastore and a store, without a cluster.

Open `dump` first: it is one backup from end to end. `store` is where the bytes go, `manifest` what is said of them.
"""

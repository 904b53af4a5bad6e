"""The members of a cluster of nodes that are all alike: the next step (`members`), and the nodes' own API (`admin`).

A package of its own because it is the one place where the operator speaks to anything but the API server.
"""

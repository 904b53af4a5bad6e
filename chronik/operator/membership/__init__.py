"""The members of a cluster of nodes that are all alike: `members` takes the next step, `admin` speaks to the nodes.

A package of its own because it is the one place where the operator speaks to anything but the API server.
"""

"""The ports that components listen on, and what the kubelet asks of them."""

from __future__ import annotations

from typing import NamedTuple

METRICS_OF_NODES, METRICS_ALONE = 13000, 13092
"""The port of a Unified node's metrics, less its number, and that of a single node: docs/images.md."""


class Port(NamedTuple):
    """A port that a component listens on.

    `served`: its headless Service has it, too. `clients`: clients of the cluster connect to it.
    """

    name: str
    number: int
    served: bool = True
    clients: bool = False


class Probe(NamedTuple):
    """What the kubelet asks: an HTTP path of a port, or whether the port opens if there is no path."""

    port: str
    path: str = ""

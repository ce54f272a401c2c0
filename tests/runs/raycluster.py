"""A Ray cluster of several nodes on this machine."""

from __future__ import annotations

import socket
from typing import Any

MEMORY = 100 * 2**20
"""Of a node's object store, in bytes."""
PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


def node_arguments(cpus: int) -> dict[str, Any]:
    """Of a node with ports of its own; where its agents choose, a busy machine may be too slow for Ray."""
    return {"num_cpus": cpus, "object_store_memory": MEMORY, **{name: free_port() for name in PORTS}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def cluster_of(*cpus: int) -> tuple[Any, list[Any]]:
    """A cluster whose nodes have so many processors each, the first with its head; and the other nodes."""
    from ray.cluster_utils import Cluster

    head = {**node_arguments(cpus[0]), "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    return found, [found.add_node(**node_arguments(count)) for count in cpus[1:]]

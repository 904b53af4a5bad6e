"""Holds what pods are given to what upstream's servers read. Nothing here runs a server: the sources were read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from chronik.manifest import is_mirror, lasting_name
from chronik.offline import loading as offline

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ADDING = {"patched", "components"}  # which add settings of their own
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.yaml") if path.stem not in ADDING)
NOW, SEED = "b652721", "b3884a2"
MAIN, TLS = "crates/chronik-server/src/main.rs", "crates/chronik-server/src/tls.rs"
INGEST = "crates/chronik-ingest/src/main.rs"


class Source(NamedTuple):
    """Where upstream reads a setting."""

    file: str
    commit: str = NOW


READ = {
    **dict.fromkeys(("start --bind 0.0.0.0", "CHRONIK_NODE_ID", "CHRONIK_ADVERTISE", "CHRONIK_DATA_DIR"), Source(MAIN)),
    "start --config /etc/chronik/config/cluster.toml": Source(f"{MAIN}, crates/chronik-config/src/cluster.rs"),
    "CHRONIK_UNIFIED_API_PORT": Source("crates/chronik-server/src/unified_api/mod.rs"),
    "CHRONIK_ADMIN_API_KEY": Source("crates/chronik-server/src/admin_api.rs"),
    **dict.fromkeys(("CHRONIK_TLS_CERT", "CHRONIK_TLS_KEY"), Source(TLS)),
    **dict.fromkeys(("CHRONIK_TLS_CA_CERT", "CHRONIK_TLS_REQUIRE_CLIENT_CERT"), Source(TLS)),
    **dict.fromkeys(("OBJECT_STORE_BACKEND", "LOCAL_STORAGE_PATH"), Source(MAIN)),
    **dict.fromkeys(("S3_BUCKET", "S3_REGION", "S3_ENDPOINT", "GCS_BUCKET"), Source(MAIN)),
    **dict.fromkeys(("AZURE_ACCOUNT_NAME", "AZURE_CONTAINER"), Source(MAIN)),
    "AWS_ACCESS_KEY_ID": Source("crates/chronik-storage/src/object_store/auth.rs"),
    "AWS_SECRET_ACCESS_KEY": Source("crates/chronik-storage/src/object_store/auth.rs"),
    "GOOGLE_APPLICATION_CREDENTIALS": Source("crates/chronik-storage/src/object_store/backends/gcs.rs"),
    "METADATA_PATH": Source("crates/chronik-controller/src/main.rs", SEED),
    **dict.fromkeys(("STORAGE_PATH", "METRICS_PORT", "HEALTH_PORT"), Source(INGEST, SEED)),
    **dict.fromkeys(("TLS_CERT_PATH", "TLS_KEY_PATH", "TLS_CA_PATH", "TLS_REQUIRE_CLIENT_CERT"), Source(INGEST, SEED)),
}
"""Every setting that some server reads, and where."""
READ_BY_NONE = {
    *("CHRONIK_ROLE", "CHRONIK_CLUSTER_NAME", "CHRONIK_NAMESPACE", "CHRONIK_CONFIG_PATH", "CHRONIK_CONTROLLER_SERVICE"),
    *("DATABASE_USER", "DATABASE_PASSWORD", "DATABASE_URL", "PGSSLMODE", "PGSSLROOTCERT", "AZURE_STORAGE_KEY"),
}
"""What Roles and Azure had before, for images of one's own."""
OF_OTHERS = {"POD_NAME"}
"""What other variables are made of."""


def containers(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the containers of an example."""
    clusters, _ = offline.load_clusters([str(path)])
    for manifest in offline.render_clusters(clusters):
        # Mirrors have Kafka's image, and what receives the log has chronik's.
        others = is_mirror(manifest) or manifest["metadata"]["name"].endswith("-archive")
        if manifest["kind"] in {"StatefulSet", "Deployment"} and not others:
            yield from manifest["spec"]["template"]["spec"]["containers"]


def settings(container: dict[str, Any]) -> set[str]:
    """Return the names of a container's variables, and its arguments as they belong together."""
    arguments = " ".join(container.get("args", ()))
    flags = [f"start {flag}" for flag in re.findall(r"--\S+ \S+", arguments)]
    return {each["name"] for each in container["env"]} | set(flags)


def rows() -> dict[str, tuple[str, str]]:
    """Return the table of docs/images.md: file and commit by setting."""
    text = (ROOT / "docs" / "images.md").read_text("utf-8").partition("## What servers read")[2].partition("\n## ")[0]
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0].startswith("`"):
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", cells[0]), (cells[3], cells[4]))
    return found


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_setting_has_a_source(path):
    """Whatever a pod is given is read by a server, as the table says, or is known to be read by none."""
    for container in containers(path):
        assert settings(container) <= READ.keys() | READ_BY_NONE | OF_OTHERS


def test_every_source_is_used():
    """Each setting of the table is in some example."""
    used = {each for path in EXAMPLES for container in containers(path) for each in settings(container)}

    assert used >= READ.keys() | READ_BY_NONE


def test_the_documentation_has_the_same_table():
    """People read of the same files and commits as the tests."""
    assert rows() == {setting: tuple(source) for setting, source in READ.items()}


def test_nodes_have_nothing_that_no_server_reads():
    """Pods of topology Unified are new, so nothing in them is for nobody."""
    for path in EXAMPLES:
        for container in containers(path):
            assert container["name"] != "node" or not settings(container) & READ_BY_NONE


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_mandatory_settings(nodes, tmp_path):
    """A node knows its number, its data, its address and, if there are several, all members by names that last."""
    text = (ROOT / "examples" / "unified.yaml").read_text("utf-8").replace("nodes: 3", f"nodes: {nodes}")
    (tmp_path / "c.yaml").write_text(text)
    clusters, _ = offline.load_clusters([str(tmp_path / "c.yaml")])
    made = {(each["kind"], lasting_name(each)): each for each in offline.render_clusters(clusters)}
    [node] = made["StatefulSet", "unified-node"]["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each for each in node["env"]}
    file = made["ConfigMap", "unified-config"].get("data", {}).get("cluster.toml", "")

    assert made["StatefulSet", "unified-node"]["spec"]["ordinals"] == {"start": 1}
    assert variables["CHRONIK_NODE_ID"]["valueFrom"]["fieldRef"]["fieldPath"].endswith(
        "['apps.kubernetes.io/pod-index']"
    )
    assert variables["CHRONIK_DATA_DIR"]["value"] in {mount["mountPath"] for mount in node["volumeMounts"]}
    assert ("CHRONIK_ADVERTISE" in variables) == (nodes == 1)
    assert bool(file) == ("--config" in node["args"]) == (nodes > 1)
    assert file.count("[[peers]]") == (nodes if nodes > 1 else 0)
    for number in range(1, nodes + 1):
        service = made["Service", f"unified-node-{number}"]
        assert service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == f"unified-node-{number}"
        assert nodes == 1 or f'raft = "unified-node-{number}.default.svc.cluster.local:5001"' in file


def test_members_do_not_change_the_hash(tmp_path):
    """One more node restarts none of the others; another address does."""
    text = (ROOT / "examples" / "unified-production.yaml").read_text("utf-8")

    def hash_of(changed: str) -> str:
        (tmp_path / "c.yaml").write_text(changed)
        clusters, _ = offline.load_clusters([str(tmp_path / "c.yaml")])
        [workload] = [each for each in offline.render_clusters(clusters) if each["kind"] == "StatefulSet"]
        return str(workload["spec"]["template"]["metadata"]["annotations"]["chronik.stream/config-hash"])

    assert hash_of(text) == hash_of(text.replace("nodes: 5", "nodes: 7"))
    assert hash_of(text) != hash_of(text.replace("hostTemplate: node-", "hostTemplate: broker-"))

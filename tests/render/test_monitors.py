"""NetworkPolicies, ServiceMonitors and PodMonitors: who may connect to whom, and where Prometheus is sent."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.custom_resources import kind_of, validate_custom
from support.monitoring import DEFINITIONS

from chronik.api.components import COMPONENTS
from chronik.offline import loading as offline

EXAMPLES = Path(__file__).parents[2] / "examples"
MONITOR = {"enabled": True, "interval": "15s", "labels": {"release": "prometheus", "chronik.stream/cluster": "other"}}
CLIENTS = [{"podSelector": {"matchLabels": {"app": "shop"}}}]


def rendered(example: str, kind: str, **spec: Any) -> dict[str, dict[str, Any]]:
    """Return an example's objects of a kind by component, with some fields of its spec replaced."""
    [cluster], _ = offline.load_clusters([str(EXAMPLES / f"{example}.yaml")])
    monitoring = {**cluster.spec["monitoring"], **spec.pop("monitoring", {})}
    changed = replace(cluster, spec={**cluster.spec, **spec, "monitoring": monitoring})  # type: ignore[arg-type]  # parts of a spec, by their names
    made = [each for each in offline.render_clusters([changed]) if each["kind"] == kind]
    return {each["metadata"]["labels"]["chronik.stream/component"]: each for each in made}


def ports(rule: dict[str, Any]) -> list[Any]:
    """Return the ports of a rule: numbers, names, and ranges."""
    return [(each["port"], each["endPort"]) if "endPort" in each else each["port"] for each in rule.get("ports", ())]


@pytest.mark.parametrize("example", ["standard", "unified-production"])
def test_each_component_has_a_policy_for_its_own_pods(example):
    """Each workload has a NetworkPolicy that selects its pods, and leaves alone what leaves them."""
    policies = rendered(example, "NetworkPolicy", networkPolicy={"enabled": True, "from": CLIENTS})
    workloads = rendered(example, "StatefulSet") | rendered(example, "Deployment")

    assert policies.keys() == workloads.keys()
    for name, policy in policies.items():
        assert policy["spec"]["podSelector"] == workloads[name]["spec"]["selector"]
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        assert "egress" not in policy["spec"]


def test_nobody_asks_for_policies_by_default():
    """Without the section, or switched off, there is none."""
    off = {"enabled": False, "from": []}
    assert rendered("standard", "NetworkPolicy") == rendered("standard", "NetworkPolicy", networkPolicy=off) == {}


def test_who_may_connect_to_roles():
    """Pods of the cluster reach each other, clients the ports for clients, everybody the metrics."""
    policies = rendered("standard", "NetworkPolicy", networkPolicy={"enabled": True, "from": CLIENTS})
    own = {"from": [{"podSelector": {"matchLabels": {"chronik.stream/cluster": "standard"}}}]}
    metrics = {"ports": [{"port": 8080, "protocol": "TCP"}]}

    def open_to_clients(number):
        return {"from": CLIENTS, "ports": [{"port": number, "protocol": "TCP"}]}

    assert {name: each["spec"]["ingress"] for name, each in policies.items()} == {
        "controller": [own, metrics],
        "ingest": [own, open_to_clients(9092), metrics],
        "search": [own, open_to_clients(9093), metrics],
    }


def test_who_may_connect_to_nodes():
    """Nodes reach each other, clients Kafka and the HTTP API, the operator the HTTP API, and everybody the metrics."""
    policy = rendered("unified-production", "NetworkPolicy", networkPolicy={"enabled": True, "from": CLIENTS})["node"]
    own, clients, operator, metrics = policy["spec"]["ingress"]

    assert own == {"from": [{"podSelector": {"matchLabels": {"chronik.stream/cluster": "events"}}}]}
    assert (clients["from"], ports(clients)) == (CLIENTS, [9092, 6092])
    assert ports(operator) == ["api"]
    assert operator["from"] == [
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "chronik-operator"}}}
    ]
    assert ("from" in metrics, ports(metrics)) == (False, [(13001, 13005)])


def test_a_node_alone():
    """A single node has its metrics on a port of their own."""
    policy = rendered("unified", "NetworkPolicy", networkPolicy={"enabled": True, "from": []}, nodes=1)["node"]

    assert ports(policy["spec"]["ingress"][-1]) == [13092]


def test_without_from_clients_are_everybody():
    """As in Kubernetes, an empty `from` means all."""
    policy = rendered("standard", "NetworkPolicy", networkPolicy={"enabled": True, "from": []})["ingest"]

    assert [("from" in rule, ports(rule)) for rule in policy["spec"]["ingress"]] == [
        (True, []),
        (False, [9092]),
        (False, [8080]),
    ]


@pytest.mark.parametrize("kind", ["serviceMonitor", "podMonitor"])
@pytest.mark.parametrize("example", ["standard", "unified-production"])
def test_monitors_fit_their_definitions(example, kind):
    """Each monitor is what its CRD takes, and has the labels that Prometheus selects by; ours win."""
    made = rendered(example, f"{kind[0].upper()}{kind[1:]}", monitoring={kind: MONITOR})
    schemas = {each["spec"]["names"]["kind"]: kind_of(each).custom for each in DEFINITIONS}

    assert made
    for each in made.values():
        assert validate_custom(each, None, schemas[each["kind"]]) == []
        labels = each["metadata"]["labels"]
        assert labels["release"] == "prometheus"
        assert labels["chronik.stream/cluster"] != "other"


def test_monitors_of_roles_find_the_metrics():
    """A ServiceMonitor names a port of the headless Service, a PodMonitor one of the container."""
    services = rendered("standard", "Service")
    for component, monitor in rendered("standard", "ServiceMonitor", monitoring={"serviceMonitor": MONITOR}).items():
        wanted = monitor["spec"]["selector"]["matchLabels"]
        [endpoint] = monitor["spec"]["endpoints"]
        assert wanted.items() <= services[component]["metadata"]["labels"].items()
        assert endpoint["port"] in {port.name for port in COMPONENTS[component].ports if port.served}
        assert (endpoint["path"], endpoint["interval"]) == ("/metrics", "15s")
    for component, monitor in rendered("standard", "PodMonitor", monitoring={"podMonitor": MONITOR}).items():
        [endpoint] = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in {port.name for port in COMPONENTS[component].ports}
        assert "relabelings" not in endpoint


def scraped(monitor: dict[str, Any], address: str, index: str) -> str:
    """Return where Prometheus goes for the metrics of a pod, by its relabelling: whole matches, `$1`, `;` between."""
    labels = {"__address__": address, "__meta_kubernetes_pod_label_apps_kubernetes_io_pod_index": index}
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    for rule in endpoint["relabelings"]:
        found = re.fullmatch(rule["regex"], ";".join(labels[name] for name in rule["sourceLabels"]))
        if found:
            labels[rule["targetLabel"]] = found.expand(rule["replacement"].replace("$", "\\"))
    return labels["__address__"]


@pytest.mark.parametrize(
    ("nodes", "index", "port"),
    [(3, "1", 13001), (5, "5", 13005), (11, "10", 13010), (99, "99", 13099), (1, "1", 13092)],
)
@pytest.mark.parametrize("host", ["10.0.0.7", "[2001:db8::7]"])
def test_each_node_is_scraped_on_its_own_port(nodes, index, port, host):
    """Node 12 has its metrics on 13012, whatever port Prometheus found the pod by; and policies let it in there."""
    monitor = rendered("unified-production", "PodMonitor", nodes=nodes, monitoring={"podMonitor": MONITOR})["node"]
    policy = rendered("unified-production", "NetworkPolicy", nodes=nodes, networkPolicy={"enabled": True, "from": []})
    [opened] = ports(policy["node"]["spec"]["ingress"][-1])
    first, last = opened if isinstance(opened, tuple) else (opened, opened)

    assert scraped(monitor, f"{host}:9092", index) == f"{host}:{port}"
    assert first <= port <= last


def test_a_metastore_by_url():
    """With a URL there is no user, password or host; the root certificate is where it is looked for."""
    pods = rendered("guarded", "StatefulSet")["ingest"]["spec"]["template"]["spec"]
    [container] = pods["containers"]
    env = {each["name"]: each.get("value") or each["valueFrom"] for each in container["env"]}

    assert env["DATABASE_URL"] == {"secretKeyRef": {"name": "chronik-postgres-url", "key": "url"}}
    assert env.keys().isdisjoint({"DATABASE_USER", "DATABASE_PASSWORD"})
    assert (env["PGSSLMODE"], env["PGSSLROOTCERT"]) == ("verify-full", "/etc/chronik/metastore/ca.crt")
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "metastore"]
    assert (mount["mountPath"], mount["readOnly"]) == ("/etc/chronik/metastore", True)
    assert {"name": "metastore", "secret": {"secretName": "postgres-ca"}} in pods["volumes"]
    [cluster], _ = offline.load_clusters([str(EXAMPLES / "guarded.yaml")])
    config = next(each for each in offline.render_clusters([cluster]) if each["kind"] == "ConfigMap")
    assert not any(key.startswith("metastore.") for key in config["data"])

"""What mirrors are given: settings that MirrorMaker 2 has, Secrets only as files, and a roll when either changes.

tests/render/mirrors/settings.tsv holds the names and types of MirrorMaker 2's own tables, and says of which version.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import yaml
from support.clusters import small_cluster

from chronik.api.rules import RuleBook
from chronik.cli.main import main
from chronik.manifest import lasting_name
from chronik.offline import assets
from chronik.offline import loading as offline
from chronik.plan.rotation import required_secrets

javaproperties = pytest.importorskip("javaproperties", reason="javaproperties is not installed")

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).parent / "mirrors" / "settings.tsv"
SECRET = "s3cr3t"
TLS = {"caSecret": "east-ca", "certSecret": "me"}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "tls": ({"tls": {}}, {}),
    "tls and certificates": ({"tls": TLS}, {}),
    "plain password": ({"sasl": {"mechanism": "PLAIN", "secret": "u"}}, {}),
    "scram over tls": ({"tls": TLS, "sasl": {"mechanism": "SCRAM-SHA-256", "secret": "u"}}, {}),
    "identity": ({"naming": "Identity"}, {}),
    "no heartbeats": ({"heartbeats": False}, {}),
    "excluding": ({"topics": {"include": ["a"], "exclude": ["a-x"]}, "groups": {"exclude": ["g"]}}, {}),
    "own settings": ({"config": {"offset.lag.max": "10"}}, {}),
    "target with tls": ({}, {"security": {"tlsEnabled": True, "tlsSecret": "west-tls"}}),
    "target with mtls": ({}, {"security": {"tlsEnabled": True, "mtlsEnabled": True, "tlsSecret": "west-tls"}}),
}
per_variant = pytest.mark.parametrize("variant", VARIANTS)


def source(**more: Any) -> dict[str, Any]:
    """Return a source of replication."""
    return {"name": "east", "bootstrapServers": ["e1:9092", "e2:9092"], "topics": {"include": ["orders.*"]}, **more}


def rendered(more: dict[str, Any] | None = None, **spec: Any) -> dict[str, dict[str, Any]]:
    """Return the objects of a mirror from `east`, by kind."""
    cluster = small_cluster("west", replication={"sources": [source(**(more or {}))]}, **spec)
    found = offline.render_clusters([cluster])
    return {
        each["kind"]: each for each in found if each["metadata"]["labels"]["chronik.stream/component"] == "mirror-east"
    }


def settings(objects: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the settings of a mirror as another reader of the format reads them."""
    return dict(javaproperties.loads(objects["ConfigMap"]["data"]["mm2.properties"]))


def containers(objects: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the containers of a mirror by name."""
    return {each["name"]: each for each in objects["Deployment"]["spec"]["template"]["spec"]["containers"]}


class Known(NamedTuple):
    """The types of MirrorMaker 2's settings by name: of a worker, of a cluster's clients, of a flow's connectors."""

    top: dict[str, str]
    cluster: dict[str, str]
    flow: dict[str, str]


def known() -> Known:
    """Read the table."""
    found: dict[str, dict[str, str]] = {}
    for line in TABLE.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            where, name, kind = line.split("\t")
            found.setdefault(where, {})[name] = kind
    connectors = ("MirrorConnectorConfig", "MirrorSourceConfig", "MirrorCheckpointConfig", "MirrorHeartbeatConfig")
    flow = {name: kind for where in connectors for name, kind in found[where].items()}
    policy = {name: kind for name, kind in flow.items() if name.startswith("replication.policy.")}
    return Known(found["MirrorMakerConfig"] | policy, found["client"] | found["DistributedConfig"], flow)


KNOWN = known()
FITS = {
    "BOOLEAN": re.compile("true|false"),
    **dict.fromkeys(("INT", "SHORT", "LONG"), re.compile("-?[0-9]+")),
    "CLASS": re.compile(r"[a-z]+(\.[a-z]+)*\.[A-Z]\w+"),
}


@per_variant
def test_every_setting_is_mirror_makers(variant):
    """Each setting has a name that MirrorMaker 2 knows at that place, and a value of its type."""
    more, spec = VARIANTS[variant]
    for name, value in settings(rendered(more, **spec)).items():
        prefix, _, rest = name.partition(".")
        if name.startswith("config.providers.directory."):  # the provider's own: config.providers says which
            continue
        table, key = {
            "east": (KNOWN.cluster, rest),
            "west": (KNOWN.cluster, rest),
            "east->west": (KNOWN.flow, rest),
            "west->east": (KNOWN.flow, rest),
        }.get(prefix, (KNOWN.top, name))

        assert key in table, name
        assert FITS.get(table[key], re.compile("(?s).+")).fullmatch(value), (name, value, table[key])


def test_settings_that_must_be_there():
    """Reading is all that copying takes at the source, ACLs are left alone, and the way back copies nothing."""
    found = settings(rendered())

    assert found["east->west.enabled"] == "true"
    assert found["east->west.offset-syncs.topic.location"] == "target"
    assert found["east->west.sync.topic.acls.enabled"] == "false"
    assert found["east->west.sync.group.offsets.enabled"] == "true"
    assert found["west->east.enabled"] == "false"
    assert found["west->east.emit.heartbeats.enabled"] == "true"
    assert found["east->west.emit.heartbeats.enabled"] == "false"
    assert found["clusters"] == "east,west"
    assert found["dedicated.mode.enable.internal.rest"] == "true"
    assert {value for name, value in found.items() if name.startswith("east->west.") and name.endswith("factor")} == {
        "3"
    }


@pytest.mark.parametrize(("naming", "policy"), [("Prefixed", "Default"), ("Identity", "Identity")])
def test_all_connectors_have_one_policy(naming, policy):
    """The policy of names stands where the connectors of topics, of groups and of heartbeats all read it, and once."""
    found = settings(rendered({"naming": naming}))
    said = {name: value for name, value in found.items() if "replication.policy" in name}

    assert said == {"replication.policy.class": f"org.apache.kafka.connect.mirror.{policy}ReplicationPolicy"}


def test_a_source_without_heartbeats_is_only_read():
    """Without heartbeats nothing runs at the source: no flow back, and no worker but this cluster's."""
    objects = rendered({"heartbeats": False})
    found = settings(objects)

    assert found["west->east.emit.heartbeats.enabled"] == "false"
    assert [name for name in found if name.startswith("east.") and "storage" in name] == []
    assert containers(objects)["mirror"]["command"][-2:] == ["--clusters", "west"]
    assert not [each for each in containers(objects)["probe"]["args"] if each.startswith("--max-lag")]


FREE = {"heartbeats.topic.replication.factor", "refresh.topics.interval.seconds"}
"""Settings of flows that config may say: of the way back, which it does not reach, and one that is a default."""
OF_A_FLOW = {name.partition(".")[2] for name in settings(rendered(VARIANTS["excluding"][0])) if ">" in name}


@pytest.mark.parametrize("name", sorted(OF_A_FLOW - FREE))
def test_what_is_set_cannot_be_set_again(name):
    """`config` is refused each setting that chronik makes for a flow."""
    spec = {"replication": {"sources": [source(config={name: "1"})]}}
    book = RuleBook(assets.rules_text())

    assert "replication-config" in {each.code for each in _checked(book, spec)}


def _checked(book: RuleBook, spec: dict[str, Any]) -> list[Any]:
    cluster = small_cluster("west", replication={"sources": [source()]})
    whole = {**cluster.spec, "replication": {**(cluster.spec["replication"] or {}), **spec["replication"]}}
    for each in whole["replication"]["sources"]:
        each.setdefault("maxLag", "60s")
        each.setdefault("naming", "Prefixed")
    return book.check({"spec": {key: value for key, value in whole.items() if value is not None}})


@pytest.mark.parametrize(("config", "expected"), [({}, "60"), ({"refresh.topics.interval.seconds": "5"}, "5")])
def test_new_topics_are_looked_for_each_minute(config, expected):
    """A topic that is made after the mirror, heartbeats for one, is found within a minute, or as config says."""
    assert settings(rendered({"config": config}))["east->west.refresh.topics.interval.seconds"] == expected


def test_own_settings_belong_to_the_flow():
    """A user's settings are those of the flow from the source to here."""
    assert settings(rendered({"config": {"offset.lag.max": " 10\\"}}))["east->west.offset.lag.max"] == " 10\\"


def test_what_is_excluded_anyway_stays_excluded():
    """A user's exclusions are added to MirrorMaker 2's own, and do not replace them."""
    found = settings(rendered(VARIANTS["excluding"][0]))

    assert found["east->west.topics.exclude"] == r".*[\-\.]internal,.*\.replica,__.*,a-x"
    assert found["east->west.groups.exclude"] == "console-consumer-.*,connect-.*,__.*,g"


@per_variant
def test_secrets_are_files(variant):
    """A ConfigMap only says where a secret lies; both containers have each such place mounted from the Secret."""
    more, spec = VARIANTS[variant]
    objects = rendered(more, **spec)
    found = settings(objects)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    secrets = {each["name"]: each["secret"] for each in pod["volumes"] if "secret" in each}
    files = {
        f"{mount['mountPath']}/{item['path']}"
        for mount in containers(objects)["mirror"]["volumeMounts"]
        for item in secrets.get(mount["name"], {}).get("items", ())
    }
    named = {
        f"{folder}/{key}"
        for value in found.values()
        for folder, key in re.findall(r"\$\{directory:([^:}]+):([^}]+)\}", value)
    } | {value for name, value in found.items() if name.endswith("truststore.location")}

    assert named == files
    assert containers(objects)["probe"]["volumeMounts"] == containers(objects)["mirror"]["volumeMounts"]
    assert not any(variable.get("valueFrom") for each in pod["containers"] for variable in each.get("env", ()))
    assert all(path.startswith(found["config.providers.directory.param.allowed.paths"] + "/") for path in files)


def test_secrets_are_watched():
    """All Secrets of a mirror are those that its pods need, so that a change of one restarts them."""
    objects = rendered(VARIANTS["scram over tls"][0], **VARIANTS["target with tls"][1])

    assert required_secrets(objects["Deployment"]) == ["east-ca", "me", "u", "west-tls"]


@pytest.mark.parametrize(
    "change",
    [{"tasks": 5}, {"topics": {"include": ["other"]}}, {"config": {"offset.lag.max": "1"}}, {"naming": "Identity"}],
    ids=str,
)
def test_a_changed_setting_rolls_the_mirror(change):
    """Whatever changes in the file changes the pods' annotation, and nothing but that."""
    before, after = rendered()["Deployment"], rendered(change)["Deployment"]
    old, new = (each["spec"]["template"]["metadata"]["annotations"] for each in (before, after))

    names = [each["spec"]["template"]["spec"]["volumes"][0]["configMap"].pop("name") for each in (before, after)]
    for each in (before, after):  # which topics the probe looks for changes with those that are copied
        del each["spec"]["template"]["spec"]["containers"][1]["args"]

    assert old.pop("chronik.stream/config-hash") != new.pop("chronik.stream/config-hash")
    assert names[0] != names[1]
    assert before == after


def test_the_file_is_named_for_its_content():
    """A mirror's ConfigMap never changes: other content is another one, and pods name their own."""
    objects = rendered()
    name = objects["ConfigMap"]["metadata"]["name"]

    assert re.fullmatch("west-mirror-east-[0-9a-f]{8}", name)
    assert objects["ConfigMap"]["immutable"] is True
    assert lasting_name(objects["ConfigMap"]) == "west-mirror-east"
    volumes = objects["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "config", "configMap": {"name": name}} in volumes


def test_paused_is_without_pods():
    """A paused mirror keeps all its objects and has no pods; the file stays, so that it goes on where it was."""
    before, after = rendered(), rendered({"paused": True})

    assert (before["Deployment"]["spec"].pop("replicas"), after["Deployment"]["spec"].pop("replicas")) == (2, 0)
    assert before == after


def test_a_mirror_knows_its_own_cluster():
    """Each topology has the Service of its own brokers for the target."""
    unified = {"topology": "Unified", "nodes": 1, "metastore": None}
    found = [settings(rendered())["west.bootstrap.servers"], settings(rendered(**unified))["west.bootstrap.servers"]]

    assert found == [f"west-{each}-client.default.svc.cluster.local:9092" for each in ("ingest", "node")]


def test_objects_are_one_of_each_kind():
    """A mirror is a ServiceAccount, a ConfigMap, a Deployment and a budget, and they come after the cluster's own."""
    objects = rendered()
    example, _ = offline.load_clusters([str(ROOT / "examples" / "replication.yaml")])
    order = [each for each in offline.render_clusters(example) if each["kind"] in {"StatefulSet", "Deployment"}]

    assert set(objects) == {"ServiceAccount", "ConfigMap", "Deployment", "PodDisruptionBudget"}
    assert [each["metadata"]["name"] for each in order] == ["west-node", "west-mirror-east", "west-mirror-south"]


def test_without_replication_nothing_is_made():
    """A cluster without the section has no object more."""
    made = offline.render_clusters([small_cluster("west")])

    assert [each for each in made if "mirror" in yaml.safe_dump(each)] == []


def test_the_probe_is_told_what_to_measure():
    """The probe knows the source, both clusters' brokers, how far the copy may be behind, and the certificates."""
    objects = rendered({"maxLag": "5m"}, **VARIANTS["target with mtls"][1])

    assert containers(objects)["probe"]["args"] == [
        "mirror-probe",
        "--source=east",
        "--cluster=west",
        "--target=west-ingest-client.default.svc.cluster.local:9092",
        "--source-server=e1:9092",
        "--source-server=e2:9092",
        "--max-lag=300",
        "--alias=west",
        "--topic=orders.*",
        "--group=.*",
        "--ca-file=/etc/chronik/mirror/target/ca.crt",
        "--cert-file=/etc/chronik/mirror/target/tls.crt",
        "--key-file=/etc/chronik/mirror/target/tls.key",
    ]


def test_the_probe_reaches_the_source_as_the_mirror_does():
    """The probe proves itself to the source by the same files, and looks for the same topics and groups."""
    more = VARIANTS["scram over tls"][0] | VARIANTS["excluding"][0] | {"naming": "Identity"}
    arguments = containers(rendered(more))["probe"]["args"]
    files = [each.partition("=")[2] for each in arguments if "-file=" in each]

    assert files == [
        "/etc/chronik/mirror/source/ca/ca.crt",
        "/etc/chronik/mirror/source/cert/tls.crt",
        "/etc/chronik/mirror/source/cert/tls.key",
        "/etc/chronik/mirror/source/sasl/username",
        "/etc/chronik/mirror/source/sasl/password",
    ]
    assert {"--source-tls", "--source-mechanism=SCRAM-SHA-256", "--identity", "--topic=a", "--not-topic=a-x"} <= {
        *arguments
    }
    assert {"--group=.*", "--not-group=g"} <= {*arguments}


@per_variant
def test_the_command_takes_what_the_probe_is_given(variant):
    """Every argument of the probe's container is one that the command knows, with a value that it takes."""
    more, spec = VARIANTS[variant]
    arguments = containers(rendered(more, **spec))["probe"]["args"]
    command = main.get_command(click.Context(main), arguments[0])

    assert command.make_context(arguments[0], arguments[1:]).params["source"] == "east"


def with_replication(**more: Any) -> list[dict[str, Any]]:
    """Return the objects of a mirror's cluster, with more in the sections that are not of a source."""
    replication = {"sources": [source()], **more.pop("replication", {})}
    return offline.render_clusters([small_cluster("west", replication=replication, **more)])


def of_mirror(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return those of the mirror by kind."""
    return {each["kind"]: each for each in objects if each["metadata"]["name"].startswith("west-mirror-east")}


def test_an_exporter_tells_of_mirror_maker():
    """With an image there is an exporter, which reads JMX at a port that is open to its own pod alone."""
    objects = of_mirror(with_replication(replication={"exporterImage": "r/jmx-exporter:1"}))
    found = containers(objects)
    options = {each["name"]: each.get("value") for each in found["mirror"]["env"]}["KAFKA_JMX_OPTS"].split()
    config = yaml.safe_load(objects["ConfigMap"]["data"]["jmx.yaml"])

    assert found["exporter"]["args"] == ["5556", "/etc/chronik/mirror/config/jmx.yaml"]
    assert config["hostPort"] == "127.0.0.1:9999"
    assert {
        "-Dcom.sun.management.jmxremote.host=127.0.0.1",
        "-Djava.rmi.server.hostname=127.0.0.1",
        "-Dcom.sun.management.jmxremote.port=9999",
        "-Dcom.sun.management.jmxremote.rmi.port=9999",
    } <= {*options}
    assert "exporter" not in containers(rendered())
    assert not any("JMX" in each["name"] for each in containers(rendered())["mirror"]["env"])


BEAN = "kafka.connect.mirror<type="
ONE_PARTITION = {"source": "east", "target": "west", "topic": "a", "partition": "3"}


@pytest.mark.parametrize(
    ("bean", "name", "labels"),
    [
        (
            f"{BEAN}MirrorSourceConnector, source=e, target=west, topic=a, partition=3><>byte-rate",
            "kafka_connect_mirror_source_connector_byte-rate",
            ONE_PARTITION,
        ),
        (
            f"{BEAN}MirrorSourceConnector, target=west, topic=a, partition=3><>record-age-ms-max",
            "kafka_connect_mirror_source_connector_record-age-ms-max",
            ONE_PARTITION,
        ),
        (
            f"{BEAN}MirrorCheckpointConnector, source=e, target=west, group=g, topic=a, partition=3><>x",
            "kafka_connect_mirror_checkpoint_connector_x",
            ONE_PARTITION | {"group": "g"},
        ),
        (
            "kafka.connect<type=task-error-metrics, connector=MirrorSourceConnector, task=1><>total-record-failures",
            "kafka_connect_task_error_total-record-failures",
            {"source": "east", "connector": "MirrorSourceConnector", "task": "1"},
        ),
    ],
    ids=["source", "source of earlier versions", "checkpoint", "errors"],
)
def test_the_exporter_names_what_mirror_maker_measures(bean, name, labels):
    """The exporter's rules fit the beans of MirrorMaker 2, as MirrorSourceMetrics and its like name them."""
    objects = of_mirror(with_replication(replication={"exporterImage": "r/jmx-exporter:1"}))
    rules = yaml.safe_load(objects["ConfigMap"]["data"]["jmx.yaml"])["rules"]
    rule, match = next((rule, found) for rule in rules if (found := re.search(rule["pattern"], bean)))

    def filled(text: str) -> str:
        return re.sub(r"\$(\d)", lambda number: match[int(number[1])], text)

    assert (filled(rule["name"]), {key: filled(value) for key, value in rule["labels"].items()}) == (name, labels)


@pytest.mark.parametrize(
    ("image", "ports"), [(None, ["metrics"]), ("r/jmx-exporter:1", ["metrics", "jmx-metrics"])], ids=["probe", "both"]
)
def test_mirrors_have_a_pod_monitor(image, ports):
    """With monitoring.podMonitor a mirror has one, too, for each port of metrics that its pods have."""
    monitoring = {"podMonitor": {"enabled": True, "labels": {"release": "x"}}}
    objects = of_mirror(with_replication(replication={"exporterImage": image}, monitoring=monitoring))
    named = {port["name"] for each in containers(objects).values() for port in each["ports"]}

    assert [each["port"] for each in objects["PodMonitor"]["spec"]["podMetricsEndpoints"]] == ports
    assert set(ports) <= named
    assert objects["PodMonitor"]["spec"]["selector"] == objects["Deployment"]["spec"]["selector"]
    assert objects["PodMonitor"]["metadata"]["labels"]["release"] == "x"
    assert "PodMonitor" not in rendered()


MIRROR_PODS = {
    "nodeSelector": {"pool": "edge"},
    "tolerations": [{"key": "edge", "operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "priorityClassName": "low",
    "runtimeClassName": "kata",
    "terminationGracePeriodSeconds": 90,
    "podLabels": {"team": "edge"},
    "podAnnotations": {"a": "b"},
    "serviceAccount": {"annotations": {"role": "r"}},
    "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "2Gi"}},
}


def test_mirrors_take_settings_of_their_own():
    """What spec.components says under mirror is of the mirrors' pods, and of no node's."""
    plain, changed = with_replication(), with_replication(components={"mirror": MIRROR_PODS}, nodeSelector={"x": "y"})
    objects = of_mirror(changed)
    template = objects["Deployment"]["spec"]["template"]

    for field in (
        "nodeSelector",
        "tolerations",
        "priorityClassName",
        "runtimeClassName",
        "terminationGracePeriodSeconds",
    ):
        assert template["spec"][field] == MIRROR_PODS[field]
    assert template["spec"]["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"
    assert (template["metadata"]["labels"]["team"], template["metadata"]["annotations"]["a"]) == ("edge", "b")
    assert objects["ServiceAccount"]["metadata"]["annotations"] == {"role": "r"}
    assert containers(objects)["mirror"]["resources"] == MIRROR_PODS["resources"]
    nodes = [each for each in changed if each["kind"] == "StatefulSet"]
    for each in nodes:
        assert each["spec"]["template"]["spec"].pop("nodeSelector") == {"x": "y"}
    assert nodes == [each for each in plain if each["kind"] == "StatefulSet"]


def test_a_sources_own_resources_win():
    """Resources of one source take the place of those of all mirrors."""
    more = {"resources": {"cpu": "1", "memory": "1Gi"}}
    objects = rendered(more, components={"mirror": MIRROR_PODS})

    assert containers(objects)["mirror"]["resources"] == {"requests": {"cpu": "1", "memory": "1Gi"}}

"""The operator's own manifests: what they are, what they let it do, and that a real API server takes them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import kubernetes_schemas
from support.operator_process import until

from chronik.cli import main as cli
from chronik.errors import InputError, TemplateError
from chronik.manifest import (
    CLUSTER,
    GROUP_SNAPSHOT_CONTENTS,
    GROUP_SNAPSHOTS,
    KINDS,
    LEASE,
    MANAGED_BY,
    OTHER_KINDS,
    KindName,
    ObjectRef,
)
from chronik.offline import assets
from chronik.offline import loading as offline
from chronik.offline.template_sets import template_reader
from chronik.operator.lease import LEASE_NAME
from chronik.render import install
from chronik.render.install import MEMBER_NAME, InstallOptions, TemplateSource, install_manifests, member_manifests
from chronik.render.own import OwnTemplate
from chronik.render.templates import Templates

ROOT = Path(__file__).parents[2]
load_all = partial(yaml.load_all, Loader=yaml.CSafeLoader)  # ten times as fast, which shows in a definition
SNAPSHOTS = Path(__file__).parent / "__snapshots__" / "test_install"
MODES = {
    "default": InstallOptions(),
    "namespaced": InstallOptions(watch=("team-a", "team-b"), with_definitions=False, pull_secrets=("registry",)),
    "sharded": InstallOptions(
        name="chronik-operator-a",
        namespace="chronik-a",
        shard="sharding.chronik.stream/key=a",
        priority_class="system-cluster-critical",
        service_monitor=True,
    ),
    "templates": InstallOptions(
        with_definitions=False,
        own=(
            OwnTemplate("backup.yaml.j2", "cluster", KindName("batch/v1", "CronJob"), "cronjobs"),
            OwnTemplate("policy.yaml.j2", "component", KindName("networking.k8s.io/v1", "Ingress"), "ingresses"),
            OwnTemplate("extra.yaml.j2", "cluster", KindName("v1", "ConfigMap"), "configmaps"),
        ),
        source=TemplateSource("chronik", "templates", {"extra.yaml.j2": "a: b\n"}),
    ),
}
DEFINITIONS = [
    "CustomResourceDefinition",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
]
CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "Namespace", *DEFINITIONS}

ALL = "create delete get list patch watch"
GOLDEN = {
    "chronikclusters.chronik.stream": "get list patch watch",
    "chronikclusters/finalizers.chronik.stream": "update",
    "chronikclusters/status.chronik.stream": "patch",
    "configmaps": ALL,
    "deployments.apps": ALL,
    "events": "create list",
    "horizontalpodautoscalers.autoscaling": ALL,
    "networkpolicies.networking.k8s.io": ALL,
    "persistentvolumeclaims": "delete get list patch watch",
    "poddisruptionbudgets.policy": ALL,
    "podmonitors.monitoring.coreos.com": ALL,
    "pods": "list watch",
    "rolebindings.rbac.authorization.k8s.io": ALL,
    "roles.rbac.authorization.k8s.io": ALL,
    "secrets": "list watch",
    "serviceaccounts": ALL,
    "servicemonitors.monitoring.coreos.com": ALL,
    "services": ALL,
    "statefulsets.apps": ALL,
}
"""What the operator may do where it watches, by resource."""
GOLDEN_BACKUPS = {
    "chronikbackups.chronik.stream": ALL,
    "chronikbackups/finalizers.chronik.stream": "update",
    "chronikbackups/status.chronik.stream": "patch",
    "jobs.batch": "create delete get patch",
    "volumegroupsnapshots.groupsnapshot.storage.k8s.io": "create delete get patch",
    "volumesnapshots.snapshot.storage.k8s.io": "create delete get list patch",
}
"""What it may do on top of that with --features backups."""
GOLDEN_FEDERATION = {
    "chronikfederations.chronik.stream": "get list patch watch",
    "chronikfederations/status.chronik.stream": "patch",
    "secrets": "get list watch",
}
"""What it may do on top of that with --features federation."""
GOLDEN_BACKUPS_CLUSTER_WIDE = {
    "persistentvolumeclaims": ALL,
    "persistentvolumes": "list",
    "volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io": "get",
    "volumesnapshotcontents.snapshot.storage.k8s.io": "get",
}
GOLDEN_CLUSTER_WIDE = {"storageclasses.storage.k8s.io": "list watch"}
"""What it may do on top of that if it watches all namespaces."""
GOLDEN_AT_HOME = {"leases.coordination.k8s.io ['chronik-operator']": "create get patch"}
"""What it may do in its own namespace."""


EVERYTHING = (
    GOLDEN | GOLDEN_FEDERATION | GOLDEN_BACKUPS | GOLDEN_BACKUPS_CLUSTER_WIDE | GOLDEN_CLUSTER_WIDE | GOLDEN_AT_HOME
)


def make(options: InstallOptions, **texts: str) -> list[dict[str, Any]]:
    """Return the operator's manifests, made with some of the templates replaced."""
    own = template_reader()
    files = {f"install/{name}.yaml.j2": text for name, text in texts.items()}
    templates = Templates(lambda name: files.get(name) or own(name))
    return install_manifests(options, templates, offline.definitions(), ALERTS)


ALERTS = [
    {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "chronik-operator", "labels": {"release": "prometheus"}},
        "spec": {"groups": []},
    }
]


def the(kind: str, manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the only manifest of a kind."""
    [found] = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def rights(rules: list[dict[str, Any]]) -> dict[str, str]:
    """Return rules as one line for each resource: its name as access control spells it, and the verbs."""
    found: dict[str, set[str]] = {}
    for rule in rules:
        for group in rule.get("apiGroups", ()):
            for resource in rule["resources"]:
                names = f" {rule['resourceNames']}" if rule.get("resourceNames") else ""
                found.setdefault(f"{resource}{f'.{group}' if group else ''}{names}", set()).update(rule["verbs"])
    return {resource: " ".join(sorted(verbs)) for resource, verbs in sorted(found.items())}


def own_manifests(options: InstallOptions) -> list[dict[str, Any]]:
    """Return the operator's own objects; the definitions have copies of their own in schema/."""
    return [manifest for manifest in make(options) if manifest["kind"] not in DEFINITIONS]


def test_features_have_rights_of_their_own():
    """A feature adds its rights and its argument, and nothing else; without one there is neither."""
    plain, made = (make(InstallOptions(features=features)) for features in ((), ("rollouts",)))
    before, after = (rights(the("ClusterRole", _operators(each))["rules"]) for each in (plain, made))

    assert {resource: verbs for resource, verbs in after.items() if before.get(resource) != verbs} == {
        "controllerrevisions.apps": "create delete get list patch",
        "pods": "delete list watch",
        "replicasets.apps": "get list",
    }
    container = the("Deployment", made)["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["reconcile", "--features=rollouts"]


def _operators(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in manifests if each["metadata"]["name"] == install.NAME]


per_mode = pytest.mark.parametrize("options", MODES.values(), ids=MODES)


@per_mode
def test_manifests(options, assert_manifests):
    """Every object of the operator is what its snapshot says."""
    assert_manifests(own_manifests(options))


def test_no_snapshot_is_left_over():
    """Every snapshot is of an object that the operator still has."""
    refs = {(mode, ObjectRef.of(each)) for mode, options in MODES.items() for each in own_manifests(options)}

    assert {path.relative_to(SNAPSHOTS).as_posix() for path in SNAPSHOTS.rglob("*.*")} == {
        f"test_manifests-{mode}/{ref.namespace or '_cluster'}/{ref.kind.lower()}-{ref.name}.yaml" for mode, ref in refs
    }


@per_mode
def test_nothing_comes_before_what_it_needs(options):
    """One pass can apply the stream: Namespace, definitions, identity, rights, and the Deployment after all of them."""
    kinds = [manifest["kind"] for manifest in make(options)]

    assert kinds[0] == "Namespace"
    assert kinds[1:5] == DEFINITIONS or not options.with_definitions
    first = kinds.index("Deployment")
    assert first > max(position for position, kind in enumerate(kinds) if "Role" in kind or kind == "ServiceAccount")
    assert kinds.index("ServiceAccount") < min(position for position, kind in enumerate(kinds) if "Role" in kind)


@per_mode
def test_objects_are_told_apart(options):
    """No two objects have the same kind, namespace and name, and each says where it belongs."""
    refs = [ObjectRef.of(manifest) for manifest in make(options)]

    assert len(set(refs)) == len(refs)
    assert {ref.kind for ref in refs if not ref.namespace} <= CLUSTER_WIDE
    source = [options.source.namespace] if options.source else []
    assert {ref.namespace for ref in refs} == {"", options.namespace, *options.watch, *source}


def test_operator_may_watch_its_own_namespace():
    """The Role for clusters and the Role for the Lease do not get in each other's way in one namespace."""
    made = make(InstallOptions(watch=(install.NAMESPACE,)))
    roles = {each["metadata"]["name"]: rights(each["rules"]) for each in made if each["kind"] == "Role"}

    assert roles == {"chronik-operator": GOLDEN, "chronik-operator-leader": GOLDEN_AT_HOME}


def test_operators_share_a_namespace_without_a_fight():
    """Two operators of different names have no object in common but the Namespace, which both describe alike."""
    one, two = (make(InstallOptions(name=name, with_definitions=False)) for name in ("one", "two"))

    assert [each for each in one if ObjectRef.of(each) in map(ObjectRef.of, two)] == one[:1]
    assert one[0] == two[0]


def test_definitions():
    """The CRD and its policy are those that `chronik schema crd` prints."""
    made = make(InstallOptions())

    assert made[1:5] == offline.definitions()
    assert [each for each in make(InstallOptions(with_definitions=False)) if each in made[1:5]] == []


def test_what_it_may_do_everywhere():
    """Watching all namespaces, the operator holds the golden list and nothing more."""
    made = make(InstallOptions())

    operators = [each for each in made if not each["metadata"]["name"].startswith("chronikclusters-")]
    assert rights(the("ClusterRole", operators)["rules"]) == GOLDEN | GOLDEN_CLUSTER_WIDE
    assert rights(the("Role", made)["rules"]) == GOLDEN_AT_HOME


def test_backups_take_rights_of_their_own():
    """With --features backups the operator gets just what backups take, is told so, and has nothing of it without."""
    made = make(InstallOptions(features=("backups",), image="registry.example.com/chronik:1"))
    operators = [each for each in made if not each["metadata"]["name"].startswith("chronikclusters-")]
    found = rights(the("ClusterRole", operators)["rules"])

    assert found == GOLDEN | GOLDEN_CLUSTER_WIDE | GOLDEN_BACKUPS | GOLDEN_BACKUPS_CLUSTER_WIDE
    (container,) = the("Deployment", made)["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--features=backups", "--backup-image=registry.example.com/chronik:1"]

    bound = make(InstallOptions(features=("backups",), watch=("team-a",)))
    (role,) = [each for each in bound if each["kind"] == "Role" and each["metadata"]["namespace"] == "team-a"]
    assert rights(role["rules"]) == GOLDEN | GOLDEN_BACKUPS


def test_a_hub_takes_rights_of_its_own():
    """With --features federation the operator may follow federations and read Secrets by name, and no more."""
    made = make(InstallOptions(features=("federation",)))
    operators = [each for each in made if not each["metadata"]["name"].startswith("chronikclusters-")]

    assert rights(the("ClusterRole", operators)["rules"]) == GOLDEN | GOLDEN_CLUSTER_WIDE | GOLDEN_FEDERATION
    (container,) = the("Deployment", made)["spec"]["template"]["spec"]["containers"]
    assert container["args"][-1] == "--features=federation"


@pytest.mark.parametrize(
    ("deletes", "verbs"), [(False, "create get list patch watch"), (True, "create delete get list patch watch")]
)
def test_a_member_gives_its_hub_one_kind_in_one_namespace(deletes, verbs):
    """The account of a hub at a member has no right but to ChronikClusters, and to delete them only if asked."""
    options = InstallOptions(name=MEMBER_NAME, namespace="streaming")
    made = member_manifests(options, Templates(template_reader()), deletes=deletes)

    assert [each["kind"] for each in made] == ["ServiceAccount", "Role", "RoleBinding"]
    assert {each["metadata"]["namespace"] for each in made} == {"streaming"}
    assert rights(the("Role", made)["rules"]) == {"chronikclusters.chronik.stream": verbs}
    assert the("RoleBinding", made)["subjects"][0]["name"] == made[0]["metadata"]["name"] == "chronik-hub"


def test_an_unknown_feature_is_refused():
    """A feature that there is not is an error that names those that there are."""
    with pytest.raises(InputError, match="there is no feature 'backup'"):
        InstallOptions(features=("backup",))


def test_namespaced_mode_is_not_cluster_wide():
    """With --watch-namespace the same rights are given in each namespace named, and none beyond."""
    made = make(MODES["namespaced"])
    roles = {each["metadata"]["namespace"]: rights(each["rules"]) for each in made if each["kind"] == "Role"}

    assert roles == {"team-a": GOLDEN, "team-b": GOLDEN, install.NAMESPACE: GOLDEN_AT_HOME}
    assert {each["kind"] for each in made} & CLUSTER_WIDE == {"Namespace"}


def test_rights_to_kinds_of_templates():
    """Kinds that templates add are granted as chronik's own are, each once, and the ConfigMap of templates by name."""
    made = make(MODES["templates"])
    roles = {
        each["metadata"]["name"]: rights(each["rules"]) for each in made if each["kind"] in {"Role", "ClusterRole"}
    }
    own = {"cronjobs.batch": ALL, "ingresses.networking.k8s.io": ALL}

    assert roles["chronik-operator"] == GOLDEN | GOLDEN_CLUSTER_WIDE | own
    assert roles["chronik-operator-templates"] == {"configmaps ['templates']": "list watch"}


@per_mode
def test_rights_have_no_wildcards(options):
    """No rule speaks of all groups, resources or verbs, or of URLs."""
    for manifest in make(options):
        for rule in manifest.get("rules", ()):
            assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
            assert not any("*" in word for words in rule.values() for word in words)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_rendered_kind_can_be_managed(kind):
    """The operator may do to each kind that is rendered all that apply and prune ask for."""
    group = kind.api_version.rpartition("/")[0]

    assert GOLDEN[f"{kind.plural}{f'.{group}' if group else ''}"] == ALL


def test_every_right_is_to_a_kind_that_chronik_knows():
    """No rule is about a resource that appears nowhere in the table of kinds."""
    groups = (*GROUP_SNAPSHOTS, *GROUP_SNAPSHOT_CONTENTS.values())
    known = {kind.plural for kind in (*KINDS, *OTHER_KINDS, *groups)}
    granted = {name.partition(".")[0].partition("/")[0] for name in EVERYTHING}

    assert granted == known


def test_operator_holds_what_it_grants(render_cluster):
    """RBAC lets nobody grant what he has not got, so every rule of a cluster's Roles is among the operator's own."""
    for manifest in render_cluster(ROOT / "examples" / "production.yaml"):
        if manifest["kind"] == "Role":
            for rule in manifest["rules"]:
                held = [GOLDEN[resource].split() for resource in rule["resources"]]

                assert rule["apiGroups"] == [""]
                assert all(set(rule["verbs"]) <= set(verbs) for verbs in held)


@per_mode
def test_bindings_bind(options):
    """Each binding gives a role that is there, in its namespace, to the account that the pods run as."""
    made = make(options)
    account = the("ServiceAccount", made)["metadata"]
    pod = the("Deployment", made)["spec"]["template"]["spec"]
    roles = [ObjectRef.of(each) for each in made if each["kind"] in {"Role", "ClusterRole"}]
    roles = [role for role in roles if not role.name.startswith("chronikclusters-")]  # Kubernetes binds those
    bindings = [each for each in made if each["kind"].endswith("RoleBinding")]

    assert len(bindings) == len(roles)
    for binding in bindings:
        where = binding["metadata"].get("namespace", "")
        assert ObjectRef(binding["roleRef"]["kind"], where, binding["roleRef"]["name"]) in roles
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        ]
    assert pod["serviceAccountName"] == account["name"]


@per_mode
def test_pods(options):
    """The operator's pods run without privileges, and their probes and Services name ports that they have."""
    made = make(options)
    deployment = the("Deployment", made)
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    assert pod["securityContext"]["runAsUser"] == 65534
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert ports == {"http-metrics": 8080, "http-health": 8081}
    assert container["livenessProbe"]["httpGet"] == {"path": "/health", "port": "http-health"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http-health"}
    assert [port["targetPort"] for port in the("Service", made)["spec"]["ports"]] == ["http-metrics"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= (
        deployment["spec"]["template"]["metadata"]["labels"].items()
    )


@per_mode
def test_selectors_tell_operators_apart(options):
    """Deployment, Service, budget and monitor select the pods of this operator and of no other."""
    made = make(options)
    selector = {"app.kubernetes.io/name": "chronik-operator", "app.kubernetes.io/instance": options.name}

    assert the("Deployment", made)["spec"]["selector"]["matchLabels"] == selector
    assert the("Service", made)["spec"]["selector"] == selector
    assert the("PodDisruptionBudget", made)["spec"]["selector"]["matchLabels"] == selector
    if options.service_monitor:
        assert the("ServiceMonitor", made)["spec"]["selector"]["matchLabels"] == selector


@per_mode
def test_operator_is_not_taken_for_a_cluster(options):
    """Nothing of the operator's bears the label by which it finds, changes and prunes the objects of clusters."""
    [label] = MANAGED_BY

    assert [each for each in make(options) if label in each["metadata"].get("labels", {})] == []


def test_arguments():
    """The container is told which namespaces and which shard are its own, each namespace once."""
    options = InstallOptions(watch=("b", "a", "b"), shard="key in (x, y)")
    [container] = the("Deployment", make(options))["spec"]["template"]["spec"]["containers"]

    assert container["args"] == ["reconcile", "--namespace=b", "--namespace=a", "--selector=key in (x, y)"]
    assert len([each for each in make(options) if each["kind"] == "RoleBinding"]) == 3


def test_monitoring():
    """A ServiceMonitor replaces the scrape annotations, and brings the alerts into the operator's namespace."""
    plain, monitored = make(InstallOptions()), make(InstallOptions(service_monitor=True))
    notes = [the("Deployment", each)["spec"]["template"]["metadata"]["annotations"] for each in (plain, monitored)]
    [alert] = [each for each in monitored if each["kind"] == "PrometheusRule"]

    assert {"ServiceMonitor", "PrometheusRule"} == {m["kind"] for m in monitored} - {m["kind"] for m in plain}
    assert notes[0]["prometheus.io/port"] == "8080"
    assert not any(key.startswith("prometheus.io") for key in notes[1])
    assert alert["metadata"]["namespace"] == install.NAMESPACE
    assert alert["metadata"]["labels"].items() > {"release": "prometheus"}.items()
    assert "namespace" not in ALERTS[0]["metadata"]


@per_mode
def test_manifests_fit_kubernetes_schemas(options):
    """Every object of a built-in kind passes the strict schema of its kind."""
    for manifest in make(options):
        if "monitoring.coreos.com" not in manifest["apiVersion"]:
            kubernetes_schemas.check(manifest)


def test_every_template_file_is_used():
    """There is no template of the operator's that nothing renders, and none that is missing."""
    files = {path.relative_to(assets.TEMPLATES).as_posix() for path in (assets.TEMPLATES / "install").rglob("*.j2")}
    own, used = template_reader(), set()
    for options in MODES.values():
        install_manifests(options, Templates(lambda name: used.add(name) or own(name)), ())
    member_manifests(InstallOptions(), Templates(lambda name: used.add(name) or own(name)), deletes=True)

    assert {name for name in used if name.startswith(install.FOLDER)} == files


def test_a_template_can_be_replaced():
    """A template that replaces one of the operator's changes its object and no other."""
    text = template_reader()("install/deployment.yaml.j2").replace("value: info", "value: debug")
    before, after = make(InstallOptions()), make(InstallOptions(), deployment=text)

    assert [a["kind"] for a, b in zip(after, before, strict=True) if a != b] == ["Deployment"]


def test_a_broken_template_names_its_line():
    """A mistake in such a template is told with file and line."""
    with pytest.raises(TemplateError, match=r"^install/service.yaml.j2:2: nam is not defined\nDid you mean name\?$"):
        make(InstallOptions(), service="kind: Service\nname: {{ nam }}\n")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"namespace": "Chronik"}, "--namespace: 'Chronik' is no name that Kubernetes takes here"),
        ({"namespace": ""}, "--namespace: '' is no name"),
        ({"namespace": "a" * 64}, "Write at most 63 lower-case letters, digits and -"),
        ({"watch": ("a", "b.c")}, "--watch-namespace: 'b.c' is no name"),
        ({"name": "-a"}, "--name: '-a' is no name"),
        ({"name": "a" * 56}, "Write at most 55"),
        ({"pull_secrets": ("a_b",)}, "--image-pull-secret: 'a_b' is no name"),
        ({"priority_class": "a b"}, "--priority-class: 'a b' is no name"),
        ({"image": "a b"}, "--image: 'a b' is no image reference"),
        ({"image": ""}, "--image: '' is no image reference"),
        ({"name": "1a"}, "beginning with a letter"),
        ({"pull_secrets": ("a..b",)}, "--image-pull-secret: 'a..b' is no name"),
        ({"image": "Registry/A:1"}, "--image: 'Registry/A:1' is no image reference"),
        ({"shard": "a in"}, "--selector: 'a in' is no requirement"),
        ({"namespace": "a\n"}, r"--namespace: 'a\\n' is no name"),
    ],
)
def test_values_that_kubernetes_would_refuse(values, message):
    """A value that no API server would take is an error that names the option."""
    with pytest.raises(InputError, match=message):
        InstallOptions(**values)


def chronik(*arguments, env=None):
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "chronik", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


def test_output_is_the_same_under_any_hash_seed_and_locale():
    """The same options make the same bytes, whatever the process is started with."""
    outputs = {
        chronik("install", env={"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"}).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }
    [output] = outputs

    assert list(load_all(output)) == make(InstallOptions())


def run(capfdbinary, *arguments):
    """Run the command in this process, and return its exit code and what it printed."""
    code = cli.run(["install", *map(str, arguments)])
    printed = capfdbinary.readouterr()
    return code, printed.out.decode(), printed.err.decode()


def test_options_reach_the_manifests(capfdbinary):
    """Every option of the command has its effect."""
    options = ("--namespace=ops", "--name=ck", "--watch-namespace=a", "--selector=k=v", "--image=r/o:1", "--replicas=3")
    more = ("--image-pull-secret=pull", "--priority-class=high", "--no-crd", "--service-monitor", "--output=json")
    code, out, _ = run(capfdbinary, *options, *more)
    made = json.loads(out)["items"]
    wanted = InstallOptions(
        namespace="ops",
        name="ck",
        watch=("a",),
        shard="k=v",
        image="r/o:1",
        replicas=3,
        pull_secrets=("pull",),
        priority_class="high",
        with_definitions=False,
        service_monitor=True,
    )

    assert code == 0
    assert made[:-1] == make(wanted)[:-1]
    assert made[-1]["spec"] == yaml.safe_load((ROOT / "deploy" / "prometheusrule.yaml").read_text())["spec"]


def test_a_wrong_value_is_a_usage_error(capfdbinary):
    """A value that cannot be used ends the command with 2, a sentence, and nothing on stdout."""
    code, out, err = run(capfdbinary, "--namespace=Ops")

    assert (code, out) == (2, "")
    assert "Invalid value for '--namespace' / '-n': 'Ops' is no name of a namespace: at most 63 lower-case" in err


def test_overrides_folder(capfdbinary, tmp_path):
    """--templates replaces templates by name, as for a cluster's, from one and the same folder."""
    (tmp_path / "install").mkdir()
    text = template_reader()("install/deployment.yaml.j2").replace("value: info", "value: debug")
    (tmp_path / "install" / "deployment.yaml.j2").write_text(text)

    assert "value: debug" in run(capfdbinary, "--templates", tmp_path)[1]
    assert cli.run(["render", "-f", str(ROOT / "examples" / "minimal.yaml"), "--templates", str(tmp_path)]) == 0


def test_templates_of_a_configmap(capfdbinary, tmp_path):
    """With --templates-configmap the folder's templates are printed as that ConfigMap, which the operator reads."""
    text = "{# for: cluster #}\napiVersion: batch/v1\nkind: CronJob\n"
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "mine.yaml.j2").write_text("a: b\n")
    (tmp_path / "backup.yaml.j2").write_text(text)
    made = list(load_all(run(capfdbinary, "--templates", tmp_path, "--templates-configmap=home/t")[1]))
    alone = list(load_all(run(capfdbinary, "--templates-configmap=home/t")[1]))
    config = the("ConfigMap", made)

    assert config["data"] == {"backup.yaml.j2": text, "parts__mine.yaml.j2": "a: b\n"}
    assert (config["metadata"]["namespace"], config["metadata"]["name"]) == ("home", "t")
    [container] = the("Deployment", made)["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["reconcile", "--templates-configmap=home/t"]
    assert "cronjobs" in str(made)
    assert "cronjobs" not in str(alone)
    assert not [each for each in alone if each["kind"] == "ConfigMap"]


def test_folder(capfdbinary, tmp_path):
    """--output-dir writes a numbered file for each object, and never into a folder that `chronik render` wrote."""
    rendered = tmp_path / "rendered"
    assert cli.run(["render", "-f", str(ROOT / "examples" / "minimal.yaml"), "--output-dir", str(rendered)]) == 0
    before = sorted(path.name for path in rendered.iterdir())
    assert run(capfdbinary, "--output-dir", tmp_path / "installed")[0] == 0
    code, _, err = run(capfdbinary, "--output-dir", rendered)

    listed = yaml.safe_load((tmp_path / "installed" / "kustomization.yaml").read_text())["resources"]
    assert [yaml.safe_load((tmp_path / "installed" / name).read_text()) for name in listed] == make(InstallOptions())
    assert listed[0] == "00-namespace-chronik-operator-system.yaml"
    assert [name for name in listed if name.startswith("90-")] == []
    assert code == 2
    assert "was not written by chronik install, and would be replaced" in err
    assert sorted(path.name for path in rendered.iterdir()) == before


# On a real API server


@pytest.fixture(scope="module")
def installed(real_server):
    """Return the manifests of an operator that watches everything, kept on the server by kubectl."""
    _kubectl_apply(real_server, "install")
    return make(InstallOptions())


def _kubectl_apply(server: Any, *arguments: str) -> list[str]:
    """Pipe what chronik prints into kubectl, and return what kubectl says of each object."""
    text = chronik(*arguments).stdout
    # As the suite installed the definitions, so that two managers do not meet in the policy.
    flags = ("--server-side", "--validate=strict", "--field-manager=suite", "-o", "json", "-f", "-")
    applied = json.loads(server.kubectl("apply", *flags, stdin=text))["items"]
    return [f"{each['kind']}/{each['metadata']['name']} {each['metadata']['resourceVersion']}" for each in applied]


@pytest.mark.real  # kubectl needs a server with discovery and OpenAPI
@pytest.mark.parametrize("more", [(), ("--watch-namespace=default", "--no-crd", "--name=narrow")], ids=["all", "one"])
def test_kubectl_applies_it_twice(real_server, more):
    """`chronik install | kubectl apply --server-side -f -` works in one go; the second time it changes nothing."""
    first = _kubectl_apply(real_server, "install", *more)

    assert _kubectl_apply(real_server, "install", *more) == first
    assert len(first) == len(list(load_all(chronik("install", *more).stdout)))


@pytest.mark.real  # only the real server has Pod Security admission
@pytest.mark.usefixtures("installed")
def test_operator_pods_pass_restricted(real_server):
    """The operator's namespace enforces `restricted`, and lets the operator's pods in, but none with privileges."""
    template = the("Deployment", make(InstallOptions()))["spec"]["template"]
    path = f"/api/v1/namespaces/{install.NAMESPACE}/pods"
    pod = {"metadata": {**template["metadata"], "name": "probe"}, "spec": template["spec"]}
    container = pod["spec"]["containers"][0]
    worse = {**pod, "spec": {**pod["spec"], "containers": [{**container, "securityContext": {"privileged": True}}]}}
    options = {"dryRun": "All", "fieldValidation": "Strict"}

    answer = real_server.call("POST", path, pod, **options)
    refused = real_server.call("POST", path, worse, **options)

    assert answer.code == 201, answer.body
    assert refused.code == 403
    assert "violates PodSecurity" in refused.body["message"]


def _token(server: Any, name: str = install.NAME, namespace: str = install.NAMESPACE) -> str:
    """Return a token of a service account."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    answer = server.call("POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})
    assert answer.code == 201, answer.body
    return str(answer.body["status"]["token"])


def _review(server: Any, token: str, namespace: str) -> dict[str, str]:
    """Return what the bearer of a token may do in a namespace, as `kubectl auth can-i --list` shows it."""
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {}}
    review["spec"] = {"namespace": namespace}
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    answer = server.call("POST", path, review, token=token)
    assert answer.code == 201, answer.body
    return rights(answer.body["status"]["resourceRules"])


def _listed(line: str) -> tuple[str, str] | None:
    """Return resource and verbs of a line of `kubectl auth can-i --list`, or None if it is about a URL."""
    found = re.fullmatch(r"(?P<name>[^\s.\[/]+)(?P<group>[^\s/]*)(?P<part>/?\S*) +\[\] +\[\] +\[(?P<verbs>.*)\]", line)
    return (found["name"] + found["part"] + found["group"], " ".join(sorted(found["verbs"].split()))) if found else None


def _basic(server: Any) -> dict[str, str]:
    """Return what every service account may do."""
    namespace = server.new_namespace()
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
    assert server.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account).code == 201
    return _review(server, _token(server, "nobody", namespace), namespace)


def _merged(*maps: dict[str, str]) -> dict[str, str]:
    verbs: dict[str, set[str]] = {}
    for each in maps:
        for resource, line in each.items():
            verbs.setdefault(resource, set()).update(line.split())
    return {resource: " ".join(sorted(found)) for resource, found in verbs.items()}


@pytest.fixture(scope="module")
def installed_cluster(real_cluster):
    """Return a server with all controllers, and the operator's objects."""
    _kubectl_apply(real_cluster, "install")
    return real_cluster


@pytest.mark.real  # the controller that aggregates roles is kube-controller-manager's
@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("view", {"get", "list", "watch"}),
        ("edit", {"get", "list", "watch", "create", "delete", "patch", "update"}),
        ("admin", {"get", "list", "watch", "create", "delete", "patch", "update"}),
    ],
)
def test_people_of_a_namespace_may_use_clusters(installed_cluster, role, may):
    """Who may view, edit or administer a namespace may do so with its ChronikClusters, and nobody else may."""
    real_cluster = installed_cluster
    namespace, user = real_cluster.new_namespace(), f"somebody-{role}"
    binding = {
        "metadata": {"name": role},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
    assert real_cluster.call("POST", path, binding).code == 201
    verbs = ("get", "list", "watch", "create", "delete", "patch", "update")

    def is_allowed(verb: str) -> bool:
        where = {"group": "chronik.stream", "resource": "chronikclusters", "namespace": namespace, "verb": verb}
        review = {"spec": {"user": user, "resourceAttributes": where}}
        answer = real_cluster.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return answer.body["status"]["allowed"]

    def allowed() -> set[str]:
        return {verb for verb in verbs if is_allowed(verb)}

    until(lambda: allowed() == may, what=lambda: str(allowed()))


@pytest.mark.real  # what RBAC makes of the rules is the server's to say
@pytest.mark.usefixtures("installed")
def test_rights_on_the_server(real_server):
    """`kubectl auth can-i --list` of the operator equals the golden list, at home and elsewhere."""
    basic, token = _basic(real_server), _token(real_server)
    everywhere = _merged(basic, GOLDEN, GOLDEN_CLUSTER_WIDE)

    assert _review(real_server, token, "default") == everywhere
    assert _review(real_server, token, install.NAMESPACE) == _merged(everywhere, GOLDEN_AT_HOME)
    user = f"system:serviceaccount:{install.NAMESPACE}:{install.NAME}"
    listed = real_server.kubectl("auth", "can-i", "--list", f"--as={user}", "--no-headers")

    assert dict(filter(None, map(_listed, listed.splitlines()))) == everywhere


@pytest.mark.real  # as above
def test_rights_in_namespaced_mode(real_server):
    """With --watch-namespace the golden list holds in that namespace; elsewhere the operator may do nothing."""
    watched, other = real_server.new_namespace(), real_server.new_namespace()
    _kubectl_apply(real_server, "install", f"--watch-namespace={watched}", f"--name={watched}", "--no-crd")
    basic, token = _basic(real_server), _token(real_server, watched)
    path = "/api/v1/{}secrets".format

    assert _review(real_server, token, watched) == _merged(basic, GOLDEN)
    assert _review(real_server, token, other) == basic
    at_home = {key.replace("chronik-operator", watched): verbs for key, verbs in GOLDEN_AT_HOME.items()}
    assert _review(real_server, token, install.NAMESPACE) == _merged(basic, at_home)
    assert real_server.call("GET", path(f"namespaces/{watched}/"), token=token).code == 200
    assert real_server.call("GET", path(""), token=token).code == 403
    assert real_server.call("GET", "/apis/storage.k8s.io/v1/storageclasses", token=token).code == 403


@pytest.mark.real  # RBAC's check against granting too much is the server's
@pytest.mark.usefixtures("installed")
def test_operator_may_apply_a_cluster(real_server):
    """With its own rights alone the operator creates, reads and changes every object of a cluster."""
    manifests = _cluster_in(real_server.new_namespace())
    options = {"token": _token(real_server), "fieldManager": "chronik-operator", "fieldValidation": "Strict"}
    calls = [(verb, manifest) for manifest in manifests for verb in ("PATCH", "GET", "PATCH")]
    calls += [("DELETE", manifest) for manifest in reversed(manifests)]
    codes = [
        real_server.call(verb, _path(manifest), manifest if verb == "PATCH" else None, **options).code
        for verb, manifest in calls
    ]

    assert codes == [201, 200, 200] * 22 + [200] * 22


@pytest.mark.real  # as above
@pytest.mark.usefixtures("installed")
def test_operator_may_hold_its_lease_and_no_other(real_server):
    """In its own namespace the operator makes, reads and changes the one Lease that its replicas agree by."""
    options = {"token": _token(real_server), "fieldManager": "chronik-operator", "force": True}
    codes = {}
    for name in (LEASE_NAME, "somebody-elses"):
        path = f"/apis/{LEASE.api_version}/namespaces/{install.NAMESPACE}/leases/{name}"
        lease = {"apiVersion": LEASE.api_version, "kind": LEASE.name, "metadata": {"name": name}}
        calls = (("PATCH", lease), ("PATCH", lease), ("GET", None))
        codes[name] = [real_server.call(verb, path, body, **options).code for verb, body in calls]

    assert codes == {LEASE_NAME: [201, 200, 200], "somebody-elses": [403, 403, 403]}


@pytest.mark.real  # as above
@pytest.mark.usefixtures("installed")
def test_operator_may_grant_no_more_than_it_holds(real_server):
    """A Role with a right that the operator has not got is refused, and so is a cluster that somebody has deleted."""
    namespace = real_server.new_namespace()
    cluster = yaml.safe_load((ROOT / "examples" / "minimal.yaml").read_text())
    cluster["metadata"]["namespace"] = namespace
    [role, *_] = [manifest for manifest in _cluster_in(namespace) if manifest["kind"] == "Role"]
    role["rules"].append({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]})
    options = {"token": _token(real_server), "fieldManager": "chronik-operator"}
    refused = real_server.call("PATCH", _path(role), role, **options)
    created = real_server.call("PATCH", _path(cluster), cluster, **options)

    assert "is attempting to grant RBAC permissions not currently held" in refused.body["message"]
    assert (refused.code, created.code) == (403, 403)


def _cluster_in(namespace: str) -> list[dict[str, Any]]:
    """Return the manifests of the example that uses every field, moved to a namespace."""
    document = yaml.safe_load((ROOT / "examples" / "production.yaml").read_text())
    document["metadata"]["namespace"] = namespace
    cluster = offline.validator().validate(document).cluster
    assert cluster is not None
    return offline.render_clusters([cluster])


def _path(manifest: dict[str, Any]) -> str:
    plurals = {kind.name: kind.plural for kind in (*KINDS, CLUSTER)}
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{base}/namespaces/{metadata['namespace']}/{plurals[manifest['kind']]}/{metadata['name']}"

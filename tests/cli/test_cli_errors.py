"""What can be wrong with a server, a namespace or one's rights: each named with a way out, without a traceback."""

from __future__ import annotations

import json
from contextlib import contextmanager

import kmock
import pytest
from support.cli_place import Place, run
from support.fake_server.server import FakeServer
from support.kube_clients import kubeconfig_for

from chronik.manifest import KINDS
from chronik.offline import assets

OBJECTS = 17
COMMANDS = ("apply", "diff")


@pytest.fixture
def place(server, namespace, tmp_path):
    """Return a fresh namespace of a server."""
    return Place(server, namespace, tmp_path)


def fails(done, code, *words):
    """Check that a command failed with that code, for a reason in these words, and decently."""
    assert done.code == code, done
    for word in words:
        assert word in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("command", COMMANDS)
def test_server_that_is_not_there(place, command):
    """Where nobody listens, the address and where it came from are named, and what to check."""
    kubeconfig = kubeconfig_for("http://127.0.0.1:9", place.folder, {})
    done = run(command, "-f", place.document(), "--kubeconfig", kubeconfig)

    fails(
        done, 3, "http://127.0.0.1:9", "Connection refused", f"kubeconfig {kubeconfig}, context c", "Check that the API"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_credentials_that_have_run_out(place, command):
    """An expired token is named as such, once, and nothing else is said."""
    authority = {"certificate-authority": str(place.server.ca)} if place.server.ca else {}
    kubeconfig = kubeconfig_for(place.server.url, place.folder, {"token": "expired"}, **authority)
    done = run(command, "-f", place.document(), "--kubeconfig", kubeconfig)

    fails(done, 3, "does not accept the credentials", "A token may have expired: log in again")
    assert done.err.count("error:") == 1


@pytest.mark.parametrize("command", [*COMMANDS, "status", "delete"])
def test_all_missing_rights_are_told_together(place, command):
    """Of a user who may read nothing, every right that is missing is told in one error, with how to check one."""
    place.apply()
    lost = Place(place.server, place.namespace, place.folder, context="nobody")
    if command in COMMANDS:
        done = getattr(lost, command)()
    else:
        done = run(command, "c", "-n", lost.namespace, *lost.flags(), *(["--yes"] if command == "delete" else []))

    assert done.code == 3
    assert done.err.count("error: ") == 1
    for plural in ("statefulsets.apps", "deployments.apps"):
        assert done.err.count(f"nobody may not list {plural} in namespace {place.namespace}\n") == 1
    assert done.err.count("kubectl auth can-i list") == 1
    assert done.err.endswith("  Grant and check the others in the same way.\n")


@pytest.mark.real
def test_certificate_that_does_not_fit(real_server, tmp_path):
    """A server whose certificate nobody vouches for is not spoken to; the message names what to check.

    Only the real server speaks TLS.
    """
    place = Place(real_server, "default", tmp_path)
    kubeconfig = kubeconfig_for(real_server.url, tmp_path, {"token": real_server.token})
    done = run("apply", "-f", place.document(), "--kubeconfig", kubeconfig)

    fails(done, 3, "no trusted connection to the API server", "certificate-authority")


@pytest.mark.parametrize("command", COMMANDS)
def test_no_rights_to_look(place, command):
    """Who may not list is told which right is missing, and how to check for it; nothing is guessed or written."""
    place.context = "alice"
    done = getattr(place, command)()

    fails(done, 3, f"alice may not list serviceaccounts in namespace {place.namespace}", "kubectl auth can-i list")
    assert all(request.method == "GET" for request in place.asked())


def test_rights_to_look_only(place):
    """Who may look but not touch is told for each kind, and a diff works all the same."""
    resources = [*(kind.plural for kind in KINDS), "persistentvolumeclaims"]
    groups = sorted({kind.api_version.rpartition("/")[0] for kind in KINDS})
    rule = {"apiGroups": groups, "resources": resources, "verbs": ["get", "list"]}
    place.grant("bob", rule, proof=place.url("Service"))
    place.context = "bob"

    assert place.diff().code == 1
    done = place.apply()
    fails(done, 3, f"bob may not patch statefulsets.apps in namespace {place.namespace}", "--as bob")
    assert f"0 created, 0 changed, 0 unchanged, {OBJECTS} failed" in done.out


def test_kind_that_is_not_installed(place):
    """A template override that makes a kind which the cluster does not know is named before anything is written."""
    folder = place.folder / "gadgets"
    folder.mkdir()
    monitor = 'apiVersion: example.com/v1\nkind: Gadget\nmetadata: {{ part("metadata") }}\nspec: {}\n'
    (folder / "serviceaccount.yaml.j2").write_text(monitor)
    done = place.apply("--templates", str(folder))

    fails(done, 3, "the cluster does not know the kind Gadget", "kubectl api-resources --api-group=")
    assert place.live() == {}


@pytest.mark.parametrize("dry_run", ["none", "server"])
def test_namespace_that_is_missing(place, dry_run):
    """A namespace that does not exist is one error, with the command that creates it."""
    place.namespace = "no-such-namespace"
    done = place.apply("--dry-run", dry_run)

    fails(
        done, 3, "namespace no-such-namespace does not exist\n  Create it: kubectl create namespace no-such-namespace"
    )
    assert done.err.count("error:") == 1
    assert len(done.out.splitlines()) == 1


def test_namespace_that_is_going(place):
    """A namespace that is being deleted is one error, with what to wait for."""
    held = {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}}
    place.call("POST", "ConfigMap", body=held)
    place.server.call("DELETE", f"/api/v1/namespaces/{place.namespace}")
    done = place.apply()
    place.call("PATCH", "ConfigMap", "held", {"metadata": {"finalizers": None}}, patch="merge")

    fails(done, 3, f"namespace {place.namespace} is being deleted", "kubectl wait --for=delete namespace/")
    assert done.err.count("error:") == 1


@pytest.mark.real
def test_quota_that_is_full(real_server, tmp_path):
    """What a quota leaves no room for is named with the quota; the rest is applied.

    The stand-in has no quotas.
    """
    place = Place(real_server, real_server.new_namespace(), tmp_path)
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"count/services": "2"}}}
    place.server.call("POST", f"/api/v1/namespaces/{place.namespace}/resourcequotas", quota)
    path = f"/api/v1/namespaces/{place.namespace}/resourcequotas/small/status"
    status = {"status": {"hard": {"count/services": "2"}, "used": {"count/services": "2"}}}
    place.server.call("PATCH", path, status, patch="merge")
    done = place.apply()

    fails(done, 5, "exceeded quota: small", f"kubectl describe quota -n {place.namespace}")
    assert f"{OBJECTS - 4} created, 0 changed, 0 unchanged, 4 failed" in done.out


@pytest.mark.real
def test_policy_that_denies(real_server, tmp_path):
    """What an admission policy denies is told in the policy's words; the rest is applied.

    The stand-in gives no verdicts of policies.
    """
    place = Place(real_server, real_server.new_namespace({"deny": "services"}), tmp_path)
    name = f"deny-{place.namespace}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}
    only_here = {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}}
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule], "namespaceSelector": only_here},
        "validations": [{"expression": "false", "message": "services are frozen until Monday"}],
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    binding = {"policyName": name, "validationActions": ["Deny"]}
    real_server.install(
        [
            {**kind, "kind": "ValidatingAdmissionPolicy", "spec": spec},
            {**kind, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
        ]
    )
    probe = {"metadata": {"name": "probe"}, "spec": {"ports": [{"port": 1}]}}
    while place.call("POST", "Service", body=probe, dryRun="All").code == 201:
        pass  # the server takes a moment to heed a new policy
    done = place.apply()

    fails(done, 5, "services are frozen until Monday")
    assert f"{OBJECTS - 4} created, 0 changed, 0 unchanged, 4 failed" in done.out


@pytest.mark.parametrize("command", COMMANDS)
def test_kubeconfig_that_is_of_no_use(place, command, monkeypatch, tmp_path):
    """No kubeconfig, a wrong context and a file that is none are input errors, each with the way out."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "broken").write_text("[")
    wrong_context = ("--kubeconfig", str(place.server.kubeconfig), "--context", "elsewhere")

    for flags, words in (
        ((), "no kubeconfig"),
        (("--kubeconfig", str(tmp_path / "broken")), "cannot be read"),
        (wrong_context, "there is no context 'elsewhere'; there are: admin"),
    ):
        fails(run(command, "-f", place.document(), *flags), 2, words)


# --- what only a server of one's own can show -------------------------------------------------------------------------


@contextmanager
def own_server(folder):
    """Give a place on a stand-in that a test may break."""
    server = FakeServer.start()
    try:
        yield Place(server, server.new_namespace(), folder)
    finally:
        server.stop()


def refuse_ingest_service(place, status):
    """Answer every apply of one Service with a Status."""
    answer = kmock.Response(status=status["code"], payload=status, headers={"Content-Type": "application/json"})
    place.server.kmock["patch", place.url("Service", "c-ingest")] << answer


def test_webhook_that_denies(tmp_path):
    """A webhook's no is told in its own words, with the object that it was about."""
    text = 'admission webhook "gate.example.com" denied the request: no changes on Fridays'
    with own_server(tmp_path) as place:
        status = {"kind": "Status", "status": "Failure", "message": text, "code": 400}
        refuse_ingest_service(place, status)
        done = place.apply()

    fails(done, 5, f"Service/{place.namespace}/c-ingest", "no changes on Fridays")
    assert f"{OBJECTS - 1} created, 0 changed, 0 unchanged, 1 failed" in done.out


def test_access_that_is_lost_half_way(tmp_path):
    """If the token runs out in the middle, what arrived is reported, and the rest is not tried."""
    with own_server(tmp_path) as place:
        place.server.fail_next("patch", kmock.resource("v1/services"), code=401, reason="Unauthorized", times=1000)
        done = place.apply("-o", "json")
        (cluster,) = done.json["clusters"]
        counts = cluster["counts"]

        assert done.code == 5
        assert counts["created"] == len(place.live()) == 10
        assert counts["created"] + counts["failed"] + counts["not-tried"] == OBJECTS
        assert "credentials" in json.dumps(cluster["objects"])


def test_server_that_wants_escape_sequences_shown(tmp_path):
    """What a server says never reaches the terminal raw."""
    with own_server(tmp_path) as place:
        status = {"kind": "Status", "status": "Failure", "message": "\x1b]0;owned\x07 no\u202e", "code": 422}
        refuse_ingest_service(place, status)
        done = place.apply()

    assert done.code == 5
    assert "\\x1b]0;owned\\x07 no\\u202e" in done.err
    assert "\x1b" not in done.out + done.err


def test_templates_that_are_broken(place):
    """A template that cannot be rendered is an input error, and nothing is asked or sent."""
    folder = place.folder / "broken"
    folder.mkdir()
    (folder / "service.yaml.j2").write_text((assets.TEMPLATES / "service.yaml.j2").read_text() + "{{ nonsense }}\n")
    done = place.apply("--templates", str(folder))

    fails(done, 2, "service.yaml.j2")
    assert place.asked() == []

"""Which API server is meant, and who we are to it: kubeconfig files, pods, tokens, plugins."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.clock import FakeClock
from support.kube_clients import kubeconfig_for

from chronik.errors import KubeconfigError
from chronik.kube import ConnectOptions
from chronik.kube.credentials import EARLY_SECONDS, AuthProvider, ExecPlugin
from chronik.kube.kubeconfig import find_access
from chronik.kube.tls import make_context


def cluster(name: str, **value: str) -> dict:
    return {"name": name, "cluster": {"server": f"https://{name}:6443", **value}}


def write(path: Path, **sections) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sections))
    return path


@pytest.fixture
def two_files(tmp_path):
    """Return $KUBECONFIG with two files that disagree, and one that does not exist."""
    first = write(
        tmp_path / "one/config",
        **{"current-context": "dev"},
        clusters=[cluster("a", **{"certificate-authority": "ca.crt"})],
        contexts=[{"name": "dev", "context": {"cluster": "a", "user": "me", "namespace": "team"}}],
    )
    (tmp_path / "one/ca.crt").write_text("")
    second = write(
        tmp_path / "two/config",
        **{"current-context": "prod"},
        clusters=[{"name": "a", "cluster": {"server": "https://other"}}, cluster("b")],
        users=[{"name": "me", "user": {"token": "t"}}],
        contexts=[
            {"name": "dev", "context": {"cluster": "b", "user": "me"}},
            {"name": "prod", "context": {"cluster": "b", "user": "me"}},
        ],
    )
    return {"KUBECONFIG": f"{first}:{tmp_path}/none:{second}"}


def test_first_file_wins(two_files, tmp_path):
    """Files are merged as kubectl does: who names a thing first has named it, and paths start at its own folder."""
    access = find_access(ConnectOptions(), two_files)

    assert access.server == "https://a:6443"
    assert access.authority == tmp_path / "one/ca.crt"
    assert access.namespace == "team"
    assert access.origin == f"kubeconfig {tmp_path}/one/config, {tmp_path}/two/config, context dev"


def test_options_win(two_files):
    """--context and --namespace win over what the files say; a context without a namespace means default."""
    chosen = find_access(ConnectOptions(context="prod", namespace="mine"), two_files)

    assert (chosen.server, chosen.namespace) == ("https://b:6443", "mine")
    assert find_access(ConnectOptions(context="prod"), two_files).namespace == "default"


def test_named_file_is_the_only_one(two_files, tmp_path):
    """--kubeconfig hides $KUBECONFIG."""
    named = kubeconfig_for("http://localhost:8001/", tmp_path, {})

    assert find_access(ConnectOptions(kubeconfig=named), two_files).server == "http://localhost:8001"


@pytest.fixture
def pod(tmp_path):
    """Return a service account's folder as a pod has it."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("pod-token\n")
    (folder / "ca.crt").write_text("")
    (folder / "namespace").write_text("ops")
    return folder


@pytest.mark.parametrize(
    ("host", "server"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
async def test_pod_uses_its_service_account(pod, monkeypatch, host, server):
    """Without a kubeconfig, a pod talks to its own cluster, in its own namespace."""
    monkeypatch.setenv("HOME", "/nonexistent")
    environ = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}

    access = find_access(ConnectOptions(), environ, pod)

    assert (access.server, access.namespace, access.origin) == (server, "ops", "the pod's service account")
    assert await access.credentials.authorization() == "Bearer pod-token"


def test_kubeconfig_wins_in_a_pod(pod, two_files):
    """A pod that has a kubeconfig uses that."""
    environ = {**two_files, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}

    assert find_access(ConnectOptions(), environ, pod).server == "https://a:6443"


def test_nothing_is_configured(monkeypatch, tmp_path):
    """With neither a kubeconfig nor a service account there is nobody to talk to."""
    monkeypatch.setenv("HOME", "/nonexistent")

    with pytest.raises(KubeconfigError, match=r"no kubeconfig: .*\n.*--kubeconfig"):
        find_access(ConnectOptions(), {}, tmp_path)


def test_a_kubeconfig_that_is_not_there(tmp_path):
    """What $KUBECONFIG names and does not exist is named."""
    with pytest.raises(KubeconfigError, match=r"\$KUBECONFIG names /nope, /none, none of which exists"):
        find_access(ConnectOptions(), {"KUBECONFIG": "/nope:/none"}, tmp_path)


def test_a_scheme_in_capitals_is_https(tmp_path):
    """`HTTPS://` is an https server like any other, so its certificate is verified."""
    file = tmp_path / "config"
    file.write_text(
        "current-context: c\ncontexts: [{name: c, context: {cluster: c}}]\n"
        "clusters: [{name: c, cluster: {server: 'HTTPS://Example.com:6443'}}]\n"
    )
    access = find_access(ConnectOptions(kubeconfig=str(file)))

    assert access.server == "https://example.com:6443"
    assert make_context(access).verify_mode == ssl.CERT_REQUIRED


BROKEN = {
    "insecure-skip-tls-verify must be true or false, is a string": (
        {"clusters": [cluster("c", **{"insecure-skip-tls-verify": "false"})]},
        ConnectOptions(),
    ),
    "cluster.insecure-skip-tls-verify must be true or false, is a string": (
        {"clusters": [cluster("c", **{"insecure-skip-tls-verify": "0"})]},
        ConnectOptions(),
    ),
    "there is no context 'prod'; there are: c": ({}, ConnectOptions(context="prod")),
    "no current-context\nChoose with --context: c": ({"current-context": ""}, ConnectOptions()),
    "there is no cluster 'c'; there are: none": ({"clusters": []}, ConnectOptions()),
    "there is no user 'c'; there are: none": ({"users": None}, ConnectOptions()),
    "server must be http(s)://HOST, is '10.0.0.1'": (
        {"clusters": [{"name": "c", "cluster": {"server": "10.0.0.1"}}]},
        ConnectOptions(),
    ),
    "certificate-authority-data is not base64": (
        {"clusters": [cluster("c", **{"certificate-authority-data": "!"})]},
        ConnectOptions(),
    ),
    "users[0] must be a map, is a string": ({"users": ["me"]}, ConnectOptions()),
}


@pytest.mark.parametrize("message", BROKEN)
def test_broken_kubeconfig(message, tmp_path):
    """What is wrong with a kubeconfig is said, with the file, and with what there is to choose from."""
    changes, options = BROKEN[message]
    path = Path(kubeconfig_for("https://a", tmp_path, {}))
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    with pytest.raises(KubeconfigError) as caught:
        find_access(options, {"KUBECONFIG": str(path)})

    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("text", "message"), [("a: [", "cannot be read"), ("[]", "is no kubeconfig")])
def test_file_that_is_no_kubeconfig(text, message, tmp_path):
    """A file that is no YAML, or something else, is named."""
    path = tmp_path / "config"
    path.write_text(text)

    with pytest.raises(KubeconfigError, match=message) as caught:
        find_access(ConnectOptions(kubeconfig=str(path)))

    assert caught.value.subject == str(path)


def test_named_file_must_exist():
    """A file named with --kubeconfig must exist."""
    with pytest.raises(KubeconfigError, match="no such file"):
        find_access(ConnectOptions(kubeconfig="/nonexistent/config"))


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({}, ""),
        ({"token": "t"}, "Bearer t"),
        ({"token": "t", "tokenFile": "token"}, "Bearer from-file"),
        ({"username": "u", "password": "p"}, f"Basic {base64.b64encode(b'u:p').decode()}"),
    ],
)
async def test_fixed_credentials(user, header, tmp_path):
    """Tokens, token files (which win, as for kubectl) and passwords become the Authorization header."""
    (tmp_path / "token").write_text("from-file\n")
    access = find_access(ConnectOptions(kubeconfig=kubeconfig_for("https://a", tmp_path, user)))

    assert await access.credentials.authorization() == header


async def test_missing_token_file_is_named(tmp_path):
    """A token file that is not there is an error that names it."""
    access = find_access(ConnectOptions(kubeconfig=kubeconfig_for("https://a", tmp_path, {"tokenFile": "nope"})))

    with pytest.raises(KubeconfigError, match="the token cannot be read: No such file"):
        await access.credentials.authorization()


def test_impersonation(tmp_path):
    """A user that acts as another says so in headers."""
    user = {"as": "jane", "as-uid": "7", "as-groups": ["a", "b"], "as-user-extra": {"reason": ["test"]}}

    headers = find_access(ConnectOptions(kubeconfig=kubeconfig_for("https://a", tmp_path, user))).headers

    assert headers == (
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-reason", "test"),
    )


PLUGIN = """
import json, os, pathlib, sys
runs = pathlib.Path(sys.argv[1]); runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
status = json.loads(sys.argv[2]); status["token"] = status.get("token", "") + str(len(runs.read_text()))
print(json.dumps({"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}


def plugin(folder: Path, time: FakeClock, program: str = PLUGIN, **status: str) -> ExecPlugin:
    script = folder / "plugin.py"
    script.write_text(program)
    arguments = [str(script), str(folder / "runs"), json.dumps(status)]
    spec = {**EXEC, "command": sys.executable, "args": arguments, "installHint": "Install it."}
    return ExecPlugin(spec, time.clock)


async def test_plugin_runs_once_for_all(tmp_path):
    """A plugin's token is used until it runs out; many who need a new one at the same time cause one run."""
    time = FakeClock()
    credentials = plugin(tmp_path, time, token="t", expirationTimestamp="2099-01-01T00:00:00Z")

    tokens = await asyncio.gather(*(credentials.authorization() for _ in range(9)))
    await asyncio.gather(*(credentials.renew("Bearer t1") for _ in range(9)))

    assert tokens == ["Bearer t1"] * 9
    assert await credentials.authorization() == "Bearer t2"


@pytest.mark.parametrize(("seconds", "runs"), [(EARLY_SECONDS - 10, 2), (EARLY_SECONDS + 10, 1)])
async def test_plugin_runs_again_before_its_token_runs_out(tmp_path, seconds, runs):
    """A token that is about to run out is replaced before the server refuses it."""
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    credentials = plugin(tmp_path, FakeClock(), token="t", expirationTimestamp=ends.isoformat())

    assert [await credentials.authorization() for _ in range(2)] == ["Bearer t1", f"Bearer t{runs}"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise SystemExit('log in first')", "log in first"),
        ("print('hello')", "it printed no ExecCredential: it must be a map, is a string"),
        (PLUGIN.replace('"token"', '"nothing"'), "neither a token nor a certificate"),
        (PLUGIN.replace("status[", "status['expirationTimestamp'] = 'soon'; status["), "expirationTimestamp"),
    ],
)
async def test_plugin_that_fails_is_named(program, message, tmp_path):
    """A plugin that fails is an error with its name, what it said, and its own hint."""
    credentials = plugin(tmp_path, FakeClock(), program)

    with pytest.raises(KubeconfigError, match=message) as caught:
        await credentials.authorization()

    assert caught.value.subject == f"exec plugin {sys.executable}"
    assert caught.value.hint == "Install it."


async def test_plugin_is_found_beside_its_kubeconfig(tmp_path):
    """A plugin named by a relative path lies beside the kubeconfig; a bare name is looked up in $PATH."""
    user = {"exec": {**EXEC, "command": "./bin/login"}}
    access = find_access(ConnectOptions(kubeconfig=kubeconfig_for("https://a", tmp_path, user)))

    with pytest.raises(KubeconfigError) as caught:
        await access.credentials.authorization()

    assert caught.value.subject == f"exec plugin {tmp_path}/bin/login"


async def test_auth_provider(tmp_path):
    """An old auth-provider section still works, through the official client."""
    claims = base64.urlsafe_b64encode(b'{"exp": 4102444800}').decode().rstrip("=")
    user = {"auth-provider": {"name": "oidc", "config": {"id-token": f"h.{claims}.s"}}}
    access = find_access(ConnectOptions(kubeconfig=kubeconfig_for("https://a", tmp_path, user)))

    assert isinstance(access.credentials, AuthProvider)
    assert await access.credentials.authorization() == f"Bearer h.{claims}.s"

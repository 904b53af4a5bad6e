"""What a kubeconfig may say, rule by rule: as kubectl 1.36 has it, which test_kube_config_fuzz.py asks itself."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.cli_place import run
from support.clock import FakeClock

from chronik.errors import KubeconfigError
from chronik.kube import ConnectOptions
from chronik.kube import credentials as kube_credentials
from chronik.kube.checks.addresses import AddressError, proxy_address, server_address, without_password
from chronik.kube.credentials import ExecPlugin, FixedToken, TokenFile
from chronik.kube.kubeconfig import find_access

if TYPE_CHECKING:
    from pathlib import Path

EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "login", "interactiveMode": "Never"}
PEM = base64.b64encode(b"-----BEGIN CERTIFICATE-----\n" + b"x" * 90).decode()


def config(user: Any = None, **cluster: Any) -> dict[str, Any]:
    """Return a kubeconfig of one context."""
    return {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://h:6443"} | cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }


def write(folder: Path, content: dict[str, Any] | str) -> Path:
    """Write a kubeconfig, and a token and an authority beside it."""
    (folder / "token").write_text("from-file\n")
    (folder / "ca.crt").write_text("")
    path = folder / "config"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def access(folder: Path, content: dict[str, Any] | str, **options: Any) -> Any:
    """Return what such a kubeconfig leads to."""
    return find_access(ConnectOptions(kubeconfig=str(write(folder, content)), **options))


REFUSED: dict[str, dict[str, Any]] = {
    # Types, as Go's decoder checks them.
    "clusters['c'].cluster must be a map, is a string": {"clusters": [{"name": "c", "cluster": "text"}]},
    "clusters['c'].cluster.insecure-skip-tls-verify must be true or false, is a string": config(
        **{"insecure-skip-tls-verify": "false"}
    ),
    "cluster.insecure-skip-tls-verify must be true or false, is a number": config(**{"insecure-skip-tls-verify": 0}),
    "cluster.disable-compression must be true or false, is a string": config(**{"disable-compression": "true"}),
    "clusters['c'].cluster.server must be a string, is a list": config(server=["https://h"]),
    "users['u'].user.token must be a string, is a number": config({"token": 12345}),
    "users['u'].user.token must be a string, is a boolean": config({"token": True}),
    "users['u'].user.exec must be a map, is a list": config({"exec": ["login"]}),
    "users['u'].user.exec.args[1] must be a string, is a number": config({"exec": EXEC | {"args": ["a", 1]}}),
    "users['u'].user.exec.env[0].value must be a string": config({"exec": {"env": [{"name": "A", "value": 1}]}}),
    "users['u'].user.exec.provideClusterInfo must be true or false": config({"exec": {"provideClusterInfo": "no"}}),
    "users['u'].user.as-groups must be a list, is a string": config({"as": "a", "as-groups": "b"}),
    "users['u'].user.as-user-extra[a] must be a list, is a string": config({"as": "a", "as-user-extra": {"a": "b"}}),
    "users['u'].user.auth-provider.config[a] must be a string": config({"auth-provider": {"config": {"a": 1}}}),
    "users must be a list, is a map": {"users": {"u": {"token": "t"}}},
    "contexts[0] must be a map, is a string": {"contexts": ["c"]},
    "current-context must be a string, is a map": {"current-context": {}},
    "preferences.colors must be true or false": {"preferences": {"colors": "x"}},
    "kind must be Config": {"kind": "List"},
    "apiVersion must be v1": {"apiVersion": "v2"},
    "users[1] has the same name as [0]": {"users": [{"name": "u"}, {"name": "u"}]},
    "certificate-authority-data is not base64": config(**{"certificate-authority-data": f" {PEM}"}),
    "client-key-data is not base64": config({"client-key-data": PEM[:-3]}),
    # What excludes each other, or is missing.
    "insecure-skip-tls-verify and a certificate-authority exclude each other": config(
        **{"insecure-skip-tls-verify": True, "certificate-authority-data": PEM}
    ),
    "certificate-authority and certificate-authority-data are both given": config(
        **{"certificate-authority": "ca.crt", "certificate-authority-data": PEM}
    ),
    "nowhere.crt cannot be read: No such file": config(
        **{"certificate-authority": "nowhere.crt", "certificate-authority-data": PEM}
    ),
    "client-certificate is given without a client-key": config({"client-certificate-data": PEM}),
    "nowhere.key cannot be read: No such file": config({"client-certificate": "ca.crt", "client-key": "nowhere.key"}),
    "token and username exclude each other": config({"token": "t", "username": "u"}),
    "exec and auth-provider exclude each other": config({"exec": EXEC, "auth-provider": {"name": "oidc"}}),
    "auth-provider.name must be oidc, is 'gcp'": config({"auth-provider": {"name": "gcp"}}),
    "exec.command is missing": config({"exec": {}}),
    "exec.apiVersion must be client.authentication.k8s.io/v1": config({"exec": {**EXEC, "apiVersion": "v1"}}),
    "exec.interactiveMode must be Never or IfAvailable or Always, is ''": config(
        {"exec": {key: value for key, value in EXEC.items() if key != "interactiveMode"}}
    ),
    "exec.env has a variable without a name": config({"exec": {**EXEC, "env": [{"value": "x"}]}}),
    "as-groups needs an `as`": config({"as-groups": ["system:masters"]}),
    # Texts that cannot be sent.
    "the token has a line break": config({"token": "t\r\nX-Evil: 1"}),
    "as has a line break": config({"as": "jane\n"}),
    "as-user-extra has a line break": config({"as": "jane", "as-user-extra": {"a": ["b\0"]}}),
    "server has a port that is no number from 1 to 65535": config(server="https://h:99999"),
    "server has brackets without an IPv6 address": config(server="https://[::1"),
    "server has a space or a control character": config(server="https://h\n"),
    "server must be http(s)://HOST, is 'h:6443'": config(server="h:6443"),
    "server must not have a user name or password": config(server="https://u:secret@h"),
    "tls-server-name is no host name or IP address: '.h'": config(**{"tls-server-name": ".h"}),
    "proxy-url must be http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT": config(**{"proxy-url": "p:3128"}),
    "namespace must be lower case letters": {
        **config(),
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "../x"}}],
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message, tmp_path):
    """What kubectl would not use is one error that names the file and the field, and never a value."""
    with pytest.raises(KubeconfigError) as caught:
        access(tmp_path, REFUSED[message])

    assert message in str(caught.value)
    assert str(tmp_path / "config") in caught.value.subject
    assert "secret" not in str(caught.value)


def test_one_line_and_exit_code(tmp_path):
    """A user sees one line, and the exit code of what cannot be used."""
    path = write(tmp_path, config(**{"insecure-skip-tls-verify": "false"}))

    done = run("status", "--kubeconfig", str(path))

    field = "clusters['c'].cluster.insecure-skip-tls-verify"
    assert (done.code, done.out) == (2, "")
    assert done.err == f"error: {path}: {field} must be true or false, is a string\n"


TAKEN: dict[str, dict[str, Any] | str] = {
    "wrapped base64": config(**{"certificate-authority-data": "\n".join((PEM[:60], PEM[60:], ""))}),
    "null beside a token": config({"token": "t", "exec": None, "auth-provider": None}),
    "null sections": {**config({"token": "t"}), "preferences": None, "extensions": None, "kind": None},
    "unknown fields": {**config({"token": "t", "colour": 5}), "future": ["x"]},
    "a key without a certificate": config({"token": "t", "client-key-data": PEM, "client-certificate": ""}),
    "words for true": yaml.safe_dump(config({"token": "t"})).replace(
        "https://h:6443", "https://h:6443\n    disable-compression: y"
    ),
    "a second document": f"{json.dumps(config({'token': 't'}))}\n---\nkind: List\n",
    "a key twice": f"current-context: nobody\n{yaml.safe_dump(config({'token': 't'}))}",
    "a tag": yaml.safe_dump(config({"token": "t"})).replace("token: t", "token: !secret t"),
    "what others read as a date": yaml.safe_dump(config({"token": "2024-01-01"})).replace("'", ""),
}


@pytest.mark.parametrize("case", TAKEN)
def test_taken(case, tmp_path):
    """What kubectl takes is taken: what the words of a YAML file mean is the same to both."""
    assert access(tmp_path, TAKEN[case]).server == "https://h:6443"


@pytest.mark.parametrize(
    ("user", "credentials"),
    [
        ({"token": "t", "exec": EXEC}, FixedToken),
        ({"tokenFile": "token", "exec": EXEC}, TokenFile),
        ({"client-certificate-data": PEM, "client-key-data": PEM, "exec": EXEC}, FixedToken),
        ({"exec": EXEC}, ExecPlugin),
    ],
)
def test_first_proof_wins(user, credentials, tmp_path):
    """A token or a certificate is used instead of a plugin, which is not run then."""
    assert type(access(tmp_path, config(user)).credentials) is credentials


@pytest.mark.parametrize(
    ("server", "header"),
    [("http://kube.example.com", ""), ("http://localhost:8001", "Bearer t"), ("http://[::1]:1", "Bearer t")],
)
async def test_plain_http_carries_no_proof(server, header, tmp_path):
    """A token never goes over the network in clear text; only to this machine itself."""
    assert await access(tmp_path, config({"token": "t"}, server=server)).credentials.authorization() == header


@pytest.mark.parametrize("content", ["", "\n", "binary \xff"])
async def test_token_file_without_a_token(content, tmp_path):
    """An empty token is none, and what is no text is none either."""
    file = tmp_path / "token"
    file.write_bytes(content.encode("latin-1"))

    with pytest.raises(KubeconfigError, match=r"the token cannot be read: (the file is empty|it is not UTF-8)"):
        await TokenFile(file, FakeClock().clock).authorization()


async def test_token_stands_in_for_its_file(tmp_path):
    """Of token and tokenFile the file counts, and the token as long as there is no such file."""
    user = {"token": "t", "tokenFile": "later"}
    credentials = access(tmp_path, config(user)).credentials
    assert await credentials.authorization() == "Bearer t"

    (tmp_path / "later").write_text("from-file")

    assert await credentials.authorization() == "Bearer from-file"


async def test_a_token_that_is_not_used_is_not_judged(tmp_path):
    """A token that cannot be sent does not matter beside a tokenFile, until there is no such file."""
    credentials = access(tmp_path, config({"token": "a\nb", "tokenFile": "later"})).credentials
    with pytest.raises(KubeconfigError, match=r"user u in .*: the token has a line break"):
        await credentials.authorization()

    (tmp_path / "later").write_text("from-file")

    assert await credentials.authorization() == "Bearer from-file"


def test_keys_of_extra_are_escaped(tmp_path):
    """The key of as-user-extra is percent-encoded, byte by byte, because it becomes the name of a header."""
    user = {"as": "jane", "as-user-extra": {"example.com/a b%ü": ["x", ""], "!#~": ["y"]}}

    headers = access(tmp_path, config(user)).headers

    assert headers == (
        ("Impersonate-User", "jane"),
        ("Impersonate-Extra-example.com%2Fa%20b%25%C3%BC", "x"),
        ("Impersonate-Extra-example.com%2Fa%20b%25%C3%BC", ""),
        ("Impersonate-Extra-!#~", "y"),
    )


def test_compression_can_be_left_out(tmp_path):
    """With disable-compression the server is told to send answers as they are."""
    assert access(tmp_path, config(**{"disable-compression": True})).headers == (("Accept-Encoding", "identity"),)


@pytest.mark.parametrize("how", ["option", "variable"])
def test_pipe_is_read_once(how, tmp_path):
    """A kubeconfig may be a pipe, as `--kubeconfig <(...)` gives one: it is read once, also when it is listed twice."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(json.dumps(config({"token": "t"}))))
    writer.start()

    options = ConnectOptions(kubeconfig=str(pipe) if how == "option" else "")
    found = find_access(options, {"KUBECONFIG": f"{pipe}:{pipe}"})

    writer.join()
    assert found.server == "https://h:6443"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("/nope", r"no kubeconfig: \$KUBECONFIG names /nope, which does not exist, and this is no pod"),
        ("/nope:/nada", r"\$KUBECONFIG names /nope, /nada, none of which exists"),
        (":", r"\$KUBECONFIG names no file"),
        ("{folder}", "{folder}: cannot be read: Is a directory"),
        ("{folder}/none:{folder}", "{folder}: cannot be read: Is a directory"),
    ],
)
def test_variable_that_leads_nowhere(value, message, tmp_path):
    """A $KUBECONFIG of which nothing can be read is named, with its paths."""
    with pytest.raises(KubeconfigError, match=message.format(folder=tmp_path)):
        find_access(ConnectOptions(), {"KUBECONFIG": value.format(folder=tmp_path)}, tmp_path)


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("HTTPS://Kube.Example.com:6443/", "https://kube.example.com:6443"),
        ("https://[::1]:6443/k8s/clusters/c-1/", "https://[::1]:6443/k8s/clusters/c-1"),
        ("https://h?a=b#c", "https://h"),
        ("https://h:", "https://h"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://h/ü", "https://h/%C3%BC"),
    ],
)
def test_server_address(given, plain):
    """A server's address is brought into one form, so that what looks at its beginning is not misled."""
    assert server_address(given) == plain


@pytest.mark.parametrize(
    "given", ["https://a..b", "https://" + "a" * 300, "https://h/%zz", "https://[1.2.3.4]", "https://a\\b"]
)
def test_bad_server_address(given):
    """An address that no connection can be made to is refused before anything tries."""
    with pytest.raises(AddressError):
        server_address(given)


@pytest.mark.parametrize(
    ("given", "plain", "shown"),
    [
        ("http://p:3128", "http://p:3128", "http://p:3128"),
        ("https://u:p%40w@p", "https://u:p%40w@p", "https://p"),
        ("socks5h://p", "socks5://p:1080", "socks5://p:1080"),
    ],
)
def test_proxy_address(given, plain, shown):
    """A proxy's address keeps its user and password, and is shown without them."""
    assert (proxy_address(given), without_password(plain)) == (plain, shown)


@pytest.mark.parametrize("given", ["http://u%3Ax:p@p", "http://u:\u4e2d@p", "socks4://p", "http://", "http://p:0"])
def test_bad_proxy_address(given):
    """A proxy that cannot be asked for a connection is refused."""
    with pytest.raises(AddressError):
        proxy_address(given)


# --- plugins ----------------------------------------------------------------------------------------------------------

TELLS = """
import json, os, sys
told = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
status = {"token": json.dumps([told, sys.stdin.read()])}
print(json.dumps({"apiVersion": told["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


def plugin(folder: Path, program: str, **more: Any) -> dict[str, Any]:
    """Write a plugin, and return an exec section that runs it."""
    (folder / "plugin.py").write_text(program)
    return {**EXEC, "command": sys.executable, "args": [str(folder / "plugin.py")], **more}


async def test_plugin_is_told_about_the_cluster(tmp_path):
    """With provideClusterInfo a plugin gets the cluster, its authority, and what an extension holds for it."""
    cluster = {
        "certificate-authority": "ca.crt",
        "tls-server-name": "kube",
        "proxy-url": "http://p:1",
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}, {"name": "b"}],
    }
    write(tmp_path, config())
    (tmp_path / "ca.crt").write_text("CA")
    user = {"exec": plugin(tmp_path, TELLS, provideClusterInfo=True)}
    path = tmp_path / "config"
    path.write_text(json.dumps(config(user, **cluster)))

    header = await find_access(ConnectOptions(kubeconfig=str(path))).credentials.authorization()

    told, stdin = json.loads(header.removeprefix("Bearer "))
    assert stdin == ""
    assert told == {
        "kind": "ExecCredential",
        "apiVersion": EXEC["apiVersion"],
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://h:6443",
                "tls-server-name": "kube",
                "certificate-authority-data": base64.b64encode(b"CA").decode(),
                "proxy-url": "http://p:1",
                "config": {"audience": "a"},
            },
        },
    }


async def test_plugin_is_told_nothing_it_does_not_ask_for(tmp_path):
    """Without provideClusterInfo a plugin learns only whether it may ask a person."""
    header = await access(tmp_path, config({"exec": plugin(tmp_path, TELLS)})).credentials.authorization()

    assert json.loads(header.removeprefix("Bearer "))[0]["spec"] == {"interactive": False}


def printing(**status: Any) -> str:
    """Return a plugin that prints a credential."""
    answer = {"apiVersion": EXEC["apiVersion"], "kind": "ExecCredential", "status": status}
    return f"print({json.dumps(json.dumps(answer))})"


STRANGE = {
    "status must be a map, is a string": printing().replace("{}", '\\"text\\"'),
    "status.token must be a string, is a number": printing(token=5),
    "status.clientKeyData must be a string, is a list": printing(clientKeyData=[]),
    "it printed only one of clientCertificateData and clientKeyData": printing(clientCertificateData="x"),
    "it printed neither a token nor a certificate": printing(token=""),
    "the token has a line break": printing(token="a\nb"),
    "its expirationTimestamp is no time": printing(token="t", expirationTimestamp="2024-01-01"),
    "kind must be ExecCredential": printing(token="t").replace("ExecCredential", "Secret"),
    "apiVersion is missing": "print('kind: ExecCredential')",
    "it answered in version": printing(token="t").replace("k8s.io/v1", "k8s.io/v1beta1"),
    "it must be a map, is a list": "print('[]')",
    "it printed nothing": "",
    "it is nested too deeply": "print('[' * 900 + ']' * 900)",
    "control characters are not allowed": "print('\\0')",
    "it ended with exit code 3: log in first": "import sys; print('log in first', file=sys.stderr); sys.exit(3)",
}


@pytest.mark.parametrize("message", STRANGE)
async def test_strange_plugin(message, tmp_path):
    """A plugin that prints something else is an error that names it and says what."""
    credentials = access(tmp_path, config({"exec": plugin(tmp_path, STRANGE[message])})).credentials

    with pytest.raises(KubeconfigError) as caught:
        await credentials.authorization()

    assert message in caught.value.message
    assert caught.value.subject == f"exec plugin {sys.executable}"


async def test_plugin_may_print_yaml(tmp_path):
    """A credential in YAML is as good as one in JSON."""
    program = f"print('apiVersion: {EXEC['apiVersion']}\\nkind: ExecCredential\\nstatus: {{token: t}}')"

    credentials = access(tmp_path, config({"exec": plugin(tmp_path, program)})).credentials

    assert await credentials.authorization() == "Bearer t"


async def test_plugin_that_hangs_is_ended(tmp_path, monkeypatch):
    """A plugin that never ends is killed, and so is one that nobody waits for any more."""
    monkeypatch.setattr(kube_credentials, "PLUGIN_SECONDS", 0.5)
    program = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    credentials = access(tmp_path, config({"exec": plugin(tmp_path, program)})).credentials

    with pytest.raises(KubeconfigError, match="it did not end within"):
        await credentials.authorization()

    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"command": "no-such-program"}, "there is no such program"),
        ({"command": "./token"}, "it is no program that may be run"),
        ({"command": "sh", "args": ["a\0b"]}, "it cannot be started: embedded null byte"),
        ({"command": "sh", "interactiveMode": "Always"}, "it needs a terminal"),
    ],
)
async def test_plugin_that_cannot_run(spec, message, tmp_path, monkeypatch):
    """A plugin that cannot be started is an error with its own hint."""
    monkeypatch.setattr(sys, "stdin", None)
    user = {"exec": {**EXEC, "installHint": "Install it.", **spec}}

    with pytest.raises(KubeconfigError, match=message) as caught:
        await access(tmp_path, config(user)).credentials.authorization()

    assert caught.value.hint == "Install it."


async def test_plugin_in_the_current_folder_is_not_found(tmp_path, monkeypatch):
    """A bare name is never looked up in the current folder, though PATH may name it."""
    (tmp_path / "login").write_text("#!/bin/sh\n")
    (tmp_path / "login").chmod(0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".:{os.environ['PATH']}")

    with pytest.raises(KubeconfigError, match="there is no such program"):
        await access(tmp_path, config({"exec": EXEC})).credentials.authorization()


async def test_plugin_that_is_given_up_is_ended(tmp_path):
    """When nobody waits for a plugin any more, as after Ctrl-C, it is killed."""
    pid = tmp_path / "pid"
    program = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    credentials = access(tmp_path, config({"exec": plugin(tmp_path, program)})).credentials
    waiting = asyncio.create_task(credentials.authorization())
    while not (pid.exists() and pid.read_text()):  # noqa: ASYNC110  # another process writes it
        await asyncio.sleep(0.01)

    waiting.cancel()
    await asyncio.wait({waiting})

    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)

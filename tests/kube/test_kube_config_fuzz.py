"""Kubeconfigs without end: no file ends in a traceback, and none has chronik say more than kubectl would.

`kubectl get --raw` is asked about the same files, against a server that notes who asks: the two must agree whether
anything is sent, and as whom. Where chronik refuses what kubectl sends, the reason is one of a few, all meant.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.clock import FakeClock
from support.kubeconfigs import Generator, Sent, Witness, what_kubectl_sends
from support.pki import make_pair, needs_openssl
from support.real_server import find_binary

from chronik.errors import ApiError, KubeconfigError
from chronik.kube import ConnectOptions, connect
from chronik.kube.checks.kubeconfig_file import parse
from chronik.kube.retry import RetryPolicy
from chronik.manifest import KIND_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG_MAP = KIND_BY_NAME["ConfigMap"]
STRICTER = (
    "namespace must be",  # kubectl asks for any namespace, and gets a 404
    "illegal environment variable name",  # Go splits `A=B=c` at the first sign, Python refuses it
    "tls-server-name is no host name",  # matters to kubectl only if the server is verified
    "apiVersion must be v1",  # kubectl takes `/` and `/v1` too
    "-data must be a string",  # Go takes an empty list for no bytes
    "extensions[1] has the same name as [0]",  # kubectl takes a second one where the first one is empty
    "there is no user",  # kubectl goes on as nobody
)
"""Why chronik refuses what kubectl sends."""


@contextmanager
def noted() -> Iterator[list[KubeconfigError | ApiError]]:
    """Give a list for the error, if there is one, that a user would see."""
    errors: list[KubeconfigError | ApiError] = []
    try:
        yield errors
    except (KubeconfigError, ApiError) as error:
        errors.append(error)


@given(st.binary(max_size=300))
@example(b"[" * 5000)
@example(b"a: &a [*a]")
@example(b"? [a]\n: b")
@example(b"clusters: [{name: c, cluster: {server: !!binary '!'}}]")
@example(b"\xff\xfe{\x00}\x00")
def test_any_bytes(content):
    """Whatever is in a file, it is read, or it is an error in one line that names the file."""
    with noted() as refusals:
        parse("a file", content)

    assert [error for error in refusals if error.subject != "a file" or "\n" in str(error)] == []


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a server's certificate, which is its own authority, and a client's with its key."""
    folder = tmp_path_factory.mktemp("pki")
    authority, server_key = make_pair(folder, "server", "127.0.0.1")
    certificate, key = make_pair(folder, "client", "jane.example.com")
    return {"authority": authority, "server key": server_key, "certificate": certificate, "key": key}


def tls_of(files: dict[str, Path]) -> ssl.SSLContext:
    """Return what a server needs that takes a client's certificate, and takes nobody without one amiss."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files["authority"], files["server key"])
    tls.load_verify_locations(files["certificate"])
    tls.verify_mode = ssl.CERT_OPTIONAL
    return tls


async def what_chronik_sends(kubeconfig: Path, witness: Witness) -> tuple[Sent | None, str]:
    """Return the request that chronik makes, None if it makes none, and the error that it ends with."""
    witness.seen.clear()
    once = RetryPolicy(attempts=1)
    options = ConnectOptions(kubeconfig=str(kubeconfig), clock=FakeClock().clock, request_timeout=5, retry=once)
    with noted() as errors:
        async with connect(options) as kube:
            await kube.get(CONFIG_MAP, "n", "a")
    said = "".join(map(str, errors))
    # It names the file, or the one that the file names: a token, a certificate.
    assert not said or str(kubeconfig.parent) in said or "exec plugin" in said, said
    return (witness.seen[0] if witness.seen else None), said


def is_anonymous(sent: Sent | None, said: str) -> bool:
    """Tell whether chronik goes on without a name where kubectl would ask a person for one, and there is none."""
    return sent is not None and not sent.authorization and not sent.certificate and said.endswith("EOF")


def who(sent: Sent | None) -> object:
    """Return who asks; of what a plugin was told, the server's address may be spelt in two ways."""
    if sent is None or sent.told is None:
        return sent
    cluster = sent.told["spec"].get("cluster", {})
    cluster["server"] = cluster.get("server", "").lower().rstrip("/")
    return sent.told, sent.impersonated, sent.certificate


async def disagreements(seed: int, count: int, folder: Path, files: dict[str, Path], kubectl: str | None) -> list[str]:
    """Return what chronik and kubectl do otherwise with some changed kubeconfigs; without a kubectl, nothing."""
    witness, found, path = Witness(), [], folder / "config"
    async with witness.server(tls_of(files)) as stub:
        generator = Generator(seed, stub.url, folder, files)
        for number in range(count):
            path.write_bytes(generator.changed())
            ours, error = await what_chronik_sends(path, witness)
            if kubectl is None:
                continue
            theirs, said = await what_kubectl_sends(kubectl, path, witness)
            meant = ours is None and any(reason in error for reason in STRICTER)
            if who(ours) != who(theirs) and not meant and not is_anonymous(ours, said):
                found.append(
                    f"{number}: chronik sends {ours}, {error}\nkubectl sends {theirs}, {said}\n{path.read_text()}"
                )
    return found


@needs_openssl
async def test_good_ones_work(files, tmp_path):
    """What the changes start from is sent, by whoever it says."""
    witness, seen = Witness(), set()
    async with witness.server(tls_of(files)) as stub:
        generator = Generator(0, stub.url, tmp_path, files)
        for _ in range(60):
            (tmp_path / "config").write_bytes(generator.written(generator.good()))
            sent, said = await what_chronik_sends(tmp_path / "config", witness)
            assert said == ""
            seen.add((sent.authorization[:10], bool(sent.impersonated), sent.certificate))

    assert {certificate for _, _, certificate in seen} == {"", "client"}
    assert {proof.partition(" ")[0] for proof, _, _ in seen} == {"", "Basic", "Bearer"}
    assert {impersonated for _, impersonated, _ in seen} == {False, True}


@needs_openssl
async def test_no_kubeconfig_is_a_traceback(files, tmp_path):
    """A changed kubeconfig works, or is an error that names it."""
    assert await disagreements(1, 400, tmp_path, files, None) == []


@needs_openssl
async def test_kubectl_agrees(files, tmp_path):
    """The real kubectl sends the same, as the same user, or nothing either."""
    kubectl = find_binary("kubectl") or pytest.skip("no kubectl found")

    assert await disagreements(2, 30, tmp_path, files, kubectl) == []


@needs_openssl
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 20))
async def test_kubectl_agrees_often(files, tmp_path, seed):
    """So it is with thousands of kubeconfigs."""
    kubectl = find_binary("kubectl") or pytest.skip("no kubectl found")

    assert await disagreements(seed, 250, tmp_path, files, kubectl) == []

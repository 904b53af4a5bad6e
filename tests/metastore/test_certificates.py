"""The root certificate of a metastore changes while clusters run: what their pods mount connects before and after.

PostgreSQL's own client is given what the rendered containers have: their variables, and the files of their mounts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from support import postgres
from support.cli_place import SPEC

from chronik.offline import loading as offline
from chronik.plan.rotation import required_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

PSQL = shutil.which("psql")
CONNECTION = {
    "host": "localhost",
    "database": "postgres",
    "credentialsSecret": "pg",
    "sslMode": "verify-full",
    "sslRootCertSecret": "pg-ca",
}
CREDENTIALS = {"username": "postgres", "password": postgres.PASSWORD}


class Authority:
    """What signs certificates of servers; its own is what clients check those by."""

    def __init__(self, name: str) -> None:
        self._certificate, self._key = signed(name, None)
        self.root = text_of(self._certificate)

    def server(self, host: str) -> tuple[str, str]:
        """Return a certificate for a host, and its key."""
        from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415  # absent where tests skip

        certificate, key = signed(host, (self._certificate, self._key))
        own = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        return text_of(certificate), own.decode()


def signed(
    name: str, by: tuple[Certificate, EllipticCurvePrivateKey] | None
) -> tuple[Certificate, EllipticCurvePrivateKey]:
    """Return a certificate for a host and its key, or without a signer that of an authority."""
    from cryptography import x509  # noqa: PLC0415  # absent where tests skip
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415  # likewise
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415  # likewise

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(by[0].subject if by else subject, subject, key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(by[1] if by else key, hashes.SHA256()), key


def text_of(certificate: Certificate) -> str:
    """Return a certificate as a file has it."""
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415  # absent where tests skip

    return certificate.public_bytes(Encoding.PEM).decode()


class Metastore:
    """A PostgreSQL that speaks TLS, and takes nothing else."""

    def __init__(self, server: postgres.Postgres) -> None:
        self.server = server
        self._files = {"ssl_cert_file": server.place / "server.crt", "ssl_key_file": server.place / "server.key"}

    def present(self, certificate: str, key: str) -> None:
        """Have the server present a certificate, from its next connection on."""
        for file, text in zip(self._files.values(), (certificate, key), strict=True):
            file.write_text(text)
            file.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(file, "postgres", "postgres")
        if self.server.data.exists():
            self.server.sql("SELECT pg_reload_conf()")
        else:
            self.server.start(ssl="on", **{name: str(file) for name, file in self._files.items()})


@pytest.fixture
def metastore() -> Iterator[Metastore]:
    """Give a PostgreSQL that has no certificate yet, and does not run."""
    if reason := postgres.absent():
        pytest.skip(reason)
    if PSQL is None or find_spec("cryptography") is None:
        pytest.skip("psql, or cryptography, which makes the certificates, is not installed")
    with postgres.folder() as place:
        server = postgres.Postgres(place)
        try:
            yield Metastore(server)
        finally:
            server.stop()


def connect(folder: Path, port: int, roots: str) -> subprocess.CompletedProcess[str]:
    """Connect as an ingest node would that started while the Secret held these roots."""
    document = folder / "cluster.json"
    spec = SPEC | {"metastore": {"database": "postgres", "connection": CONNECTION | {"port": port}}}
    metadata = {"name": "c", "namespace": "demo"}
    head = {"apiVersion": "chronik.stream/v1alpha1", "kind": "ChronikCluster", "metadata": metadata}
    document.write_text(json.dumps(head | {"spec": spec}))
    [cluster], _ = offline.load_clusters([str(document)])
    rendered = {(each["kind"], each["metadata"]["name"]): each for each in offline.render_clusters([cluster])}
    workload = rendered["StatefulSet", "c-ingest"]
    pod = workload["spec"]["template"]["spec"]
    [container] = pod["containers"]
    secrets = {"pg": CREDENTIALS, "pg-ca": {"ca.crt": roots}}
    assert secrets.keys() == set(required_secrets(workload)), "a change of any restarts the pods"
    environment = {}
    for each in container["env"]:
        source = each.get("valueFrom", {}).get("secretKeyRef")
        environment[each["name"]] = secrets[source["name"]][source["key"]] if source else each.get("value", "")
    sources = {each["name"]: each for each in pod["volumes"]}
    for mount in container["volumeMounts"]:
        name = sources.get(mount["name"], {}).get("secret", {}).get("secretName")
        inside = folder / mount["mountPath"].lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        for file, text in secrets[name].items() if name else ():
            (inside / file).write_text(text)
    [config] = [each["data"] for (kind, _), each in rendered.items() if kind == "ConfigMap"]
    libpq = {
        "PGHOST": config["metastore.host"],
        "PGPORT": config["metastore.port"],
        "PGDATABASE": config["metastore.database"],
        "PGUSER": environment["DATABASE_USER"],
        "PGPASSWORD": environment["DATABASE_PASSWORD"],
        "PGSSLMODE": environment["PGSSLMODE"],
        "PGSSLROOTCERT": str(folder / environment["PGSSLROOTCERT"].lstrip("/")),
    }
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    command = [str(PSQL), "-XAtc", query]
    return subprocess.run(command, env=os.environ | libpq, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_root_certificate_is_replaced_without_a_gap(tmp_path, metastore):
    """With both roots in the Secret first, pods connect with each certificate; with one, only with its own."""
    old, new = Authority("old"), Authority("new")

    def connects(roots: str) -> bool:
        done = connect(tmp_path, metastore.server.port, roots)
        assert done.stdout == "t\n" or "certificate verify failed" in done.stderr, done
        return done.returncode == 0

    metastore.present(*old.server("localhost"))
    before = connects(old.root), connects(old.root + new.root), connects(new.root)
    metastore.present(*new.server("localhost"))
    after = connects(old.root), connects(old.root + new.root), connects(new.root)

    assert (before, after) == ((True, True, False), (False, True, True))


@pytest.mark.slow
def test_the_name_of_the_host_is_checked(tmp_path, metastore):
    """A certificate of the right root for another host is refused."""
    authority = Authority("root")
    metastore.present(*authority.server("elsewhere.example.com"))
    done = connect(tmp_path, metastore.server.port, authority.root)

    assert done.returncode != 0
    assert 'server certificate for "elsewhere.example.com" does not match host name "localhost"' in done.stderr

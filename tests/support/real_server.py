"""Starts a real kube-apiserver with its etcd on loopback, for as long as a test session lasts.

The binaries are those that envtest downloads (`setup-envtest use`), or any others that are found. The fixture
`real_server` in conftest.py is the one caller; `python tests/support/real_server.py` starts one to play with.
"""

from __future__ import annotations

import atexit
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from support.api import ADMIN, USERS, ApiServer, Request, query_of, write_kubeconfig

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVTEST_FOLDER = "/usr/local/kubebuilder/bin"
MISSING = "no kube-apiserver and etcd found: set KUBEBUILDER_ASSETS to envtest's folder"
START_SECONDS = 60
GARBAGE_PERCENT = "200"  # by Go's own 100 a sixth of the server's time goes to collecting garbage
ALL_CONTROLLERS = "*,-node-lifecycle-controller"
GARBAGE_COLLECTION = "garbage-collector-controller,namespace-controller,persistentvolumeclaim-protection-controller"
CONTROLLERS = "system:kube-controller-manager"

# Runs "$@" until its own standard input closes, which it does when the test process ends, however it ends, and then
# removes the folder $0.
_LEASH = 'trap "" INT TERM; "$@" </dev/null & read _; kill -9 $!; rm -rf "$0"'

_MARKER = "/version?marker="
_METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETE"}
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "rules": [
        {"level": "None", "users": ["system:apiserver", CONTROLLERS, "system:anonymous"]},
        {"level": "Metadata", "verbs": ["watch"], "omitStages": ["RequestReceived", "ResponseComplete"]},
        {"level": "Metadata", "verbs": ["get", "list"], "omitStages": ["RequestReceived", "ResponseStarted"]},
        {"level": "Request", "omitStages": ["RequestReceived", "ResponseStarted"]},
    ],
}


def find_binary(name: str) -> str | None:
    """Return the path of a Kubernetes binary: $KUBEBUILDER_ASSETS, envtest's default folder, then PATH."""
    folders = (os.environ.get("KUBEBUILDER_ASSETS"), ENVTEST_FOLDER)
    return next(filter(None, (shutil.which(name, path=folder) for folder in folders if folder)), shutil.which(name))


def available() -> bool:
    """Tell whether a real server can be started on this machine."""
    return bool(find_binary("etcd") and find_binary("kube-apiserver"))


class RealServer(ApiServer):
    """kube-apiserver and etcd, and kube-controller-manager if asked for; see `start`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chronik-real-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._audit_log = self.folder / "audit.log"
        self._log: list[Request] = []
        self._by_namespace: dict[str, list[Request]] = defaultdict(list)
        self._audit_offset = 0
        atexit.register(self.stop)

    @classmethod
    def start(cls, *, controllers: bool = False, audit: bool = True, objects: Path | None = None) -> Self:
        """Start a server and return once it is ready (about three seconds).

        RBAC and Pod Security admission are on. `controllers` adds kube-controller-manager with all it has, StatefulSets
        and HPA included, but no scheduler and no node. `objects` is what another server has saved with `save`, which
        this one has from its start. Raises RuntimeError with the end of the log if the API server does not come up.
        """
        server = cls()
        try:
            if objects:
                shutil.copytree(objects, server.folder / "etcd")
            server._start_apiserver(audit=audit)
            if controllers:
                server.start_controllers()
        except BaseException:
            server.stop()
            raise
        return server

    def requests(self) -> list[Request]:
        """Return everything asked so far, oldest first, from the audit log."""
        self._catch_up()
        return list(self._log)

    def requests_of(self, namespace: str) -> list[Request]:
        """Return what was asked about the objects of one namespace, however long the log of the session is."""
        self._catch_up()
        return list(self._by_namespace[namespace])

    def _catch_up(self) -> None:
        """Read the audit log up to now: it is complete once a marker that we ask for is in it."""
        marker = f"{_MARKER}{uuid.uuid4()}"
        self.call("GET", marker)
        for _ in range(500):
            if marker in self._markers_read():
                return
            time.sleep(0.01)
        raise RuntimeError("the audit log did not grow: was the server started with audit=True?")

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Run kubectl as admin and return its standard output; raise CalledProcessError if it fails."""
        command = [find_binary("kubectl") or "kubectl", f"--kubeconfig={self.kubeconfig}", *args]
        return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True).stdout

    def start_controllers(self, names: str = ALL_CONTROLLERS) -> None:
        """Start kube-controller-manager with the controllers named; it is busy a few seconds before it acts."""
        kubeconfig = write_kubeconfig(self.folder / "controllers.kubeconfig", self, (CONTROLLERS,))
        self._spawn(
            "kube-controller-manager",
            f"--kubeconfig={kubeconfig}",
            f"--service-account-private-key-file={self.folder}/service-account.pem",
            "--leader-elect=false",
            "--secure-port=0",
            f"--controllers={names}",
            "--horizontal-pod-autoscaler-sync-period=1s",
        )

    def stop(self) -> None:
        """Kill all processes and remove their data. Does nothing the second time."""
        self.hang_up()
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        self._processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.stop)

    def save(self, folder: Path) -> None:
        """Save all objects in a folder that is not there yet, for other servers to start with.

        etcd stands still meanwhile, so its files are those of a crash, which it is made to start from.
        """
        store = self._processes[0].pid
        os.killpg(store, signal.SIGSTOP)
        try:
            shutil.copytree(self.folder / "etcd", folder, ignore=shutil.ignore_patterns("*.tmp"))
        finally:
            os.killpg(store, signal.SIGCONT)

    def restart(self) -> None:
        """Kill the API server, and start it again over the same data and on the same port."""
        self.hang_up()
        leash = self._processes.pop(1)
        os.killpg(leash.pid, signal.SIGKILL)
        leash.communicate()
        self._wait_until_closed()
        with self._audit_log.open("ab") as log:
            log.write(b"\n")  # a last line may have been cut off
        self._spawn("kube-apiserver", *self._flags)
        self._processes.insert(1, self._processes.pop())
        self._wait_until_ready()

    def _wait_until_closed(self) -> None:
        target = urlsplit(self.url)
        with suppress(OSError):
            while True:
                socket.create_connection((str(target.hostname), target.port or 0)).close()

    def _start_apiserver(self, *, audit: bool) -> None:
        d = self.folder
        store, peer, port = _free_ports(3)
        self.url, self.ca = f"https://127.0.0.1:{port}", d / "pki/apiserver.crt"
        (d / "service-account.pem").write_text(_signing_key())
        (d / "tokens.csv").write_text(
            "".join(f"{user},{user},{user},system:masters\n" for user in (ADMIN, CONTROLLERS))
            + "".join(f"{user},{user},{user}\n" for user in USERS)
        )
        (d / "audit.json").write_text(json.dumps(_AUDIT_POLICY))
        self._spawn(
            "etcd",
            f"--data-dir={d}/etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls=http://127.0.0.1:{store}",
            f"--advertise-client-urls=http://127.0.0.1:{store}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        )
        self._flags = (
            f"--etcd-servers=http://127.0.0.1:{store}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={d}/pki",
            f"--service-account-key-file={d}/service-account.pem",
            f"--service-account-signing-key-file={d}/service-account.pem",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={d}/tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
            "--allow-privileged=true",
            *([f"--audit-policy-file={d}/audit.json", f"--audit-log-path={self._audit_log}"] if audit else []),
        )
        self._spawn("kube-apiserver", *self._flags)
        self._wait_until_ready()
        self.kubeconfig = write_kubeconfig(d / "kubeconfig", self)

    def _spawn(self, name: str, *flags: str) -> None:
        binary = find_binary(name)
        if binary is None:
            raise RuntimeError(f"no {name} found in $KUBEBUILDER_ASSETS, {ENVTEST_FOLDER} or PATH")
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    ["/bin/sh", "-c", _LEASH, str(self.folder), binary, *flags],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env={**os.environ, "GOGC": GARBAGE_PERCENT},
                    start_new_session=True,
                )
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if self.call("GET", "/readyz").code == 200:
                    return
            except OSError:  # not listening yet, or the certificate is not written yet
                pass
            time.sleep(0.05)
        log = (self.folder / "kube-apiserver.log").read_text(errors="replace")
        raise RuntimeError(f"kube-apiserver was not ready after {START_SECONDS} s; the end of its log:\n{log[-3000:]}")

    def _markers_read(self) -> set[str]:
        """Take in what is new in the audit log, and return the markers that were in it."""
        if not self._audit_log.exists():
            return set()
        with self._audit_log.open("rb") as log:
            log.seek(self._audit_offset)
            complete, end, _ = log.read().rpartition(b"\n")
        self._audit_offset += len(complete + end)
        events = list(_events(complete))
        markers = {event["requestURI"] for event in events if event["requestURI"].startswith(_MARKER)}
        for event in events:
            if event["requestURI"] not in markers:
                self._log.append(_request(event))
                self._by_namespace[self._log[-1].namespace].append(self._log[-1])
        return markers


def _events(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in filter(None, lines.splitlines()):
        with suppress(json.JSONDecodeError):  # the server was killed in the middle of it
            yield json.loads(line)


def _request(event: dict[str, Any]) -> Request:
    path, query = query_of(event["requestURI"])
    about = event.get("objectRef", {})
    return Request(
        verb=event["verb"],
        method=_METHODS.get(event["verb"], "GET"),
        path=path,
        query=query,
        resource=about.get("resource", ""),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        subresource=about.get("subresource", ""),
        user=event["user"]["username"],
        user_agent=event.get("userAgent", ""),
        code=event.get("responseStatus", {}).get("code", 200),
        body=event.get("requestObject"),
    )


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _signing_key() -> str:
    """Return a fresh P-256 private key in PEM (SEC 1), without the optional public half: Go derives it."""
    der = bytes.fromhex("303102010104 20") + secrets.token_bytes(32) + bytes.fromhex("a00a06082a8648ce3d030107")
    return f"-----BEGIN EC PRIVATE KEY-----\n{base64.b64encode(der).decode()}\n-----END EC PRIVATE KEY-----\n"


if __name__ == "__main__":
    running = RealServer.start(controllers=True)
    sys.stdout.write(f"export KUBECONFIG={running.kubeconfig}   # Ctrl-C stops it\n")
    sys.stdout.flush()
    signal.sigwait({signal.SIGINT})

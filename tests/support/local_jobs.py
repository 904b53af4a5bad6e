"""Runs the container of a Job as a process of this machine: its arguments, its variables, and the Secrets it mounts."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from support.postgres import unprivileged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.operators import Namespace

    from chronik.manifest import Manifest


class LocalJobs:
    """Runs Jobs of a namespace in a folder that an unprivileged user may read; `ended` is what they said at their end.

    `kills` is how many runs are killed with SIGKILL after `after` seconds, before one is let be.
    """

    def __init__(self, place: Namespace, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.ended: list[dict[str, Any]] = []
        self.kills, self.after = 0, 0.5

    def run(self, job: Manifest) -> dict[str, Any] | None:
        """Run a Job to its end, in the calling thread, and return what its container said."""
        command, environment = self._command(job)
        while True:
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd="/"
            )
            try:
                out, _ = process.communicate(timeout=self.after if self.kills else 120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                self.kills -= 1
                continue
            said: dict[str, Any] = json.loads((out.strip().splitlines() or ["{}"])[-1])
            self.ended.append(said)
            return said

    @contextmanager
    def started(self, deployment: Manifest) -> Iterator[Path]:
        """Run the container of a Deployment as long as the block lasts; give the file that it touches."""
        command, environment = self._command(deployment)
        command = [each.replace("/tmp/", f"{self.folder}/") for each in command]  # a path in a container
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        try:
            yield self.folder / "whole"
        finally:
            process.terminate()
            process.wait()

    def _command(self, workload: Manifest) -> tuple[list[str], dict[str, str]]:
        """Return what a workload's container runs here, and its variables, with Secrets where this machine has them."""
        spec = workload["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        environment = {"HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
        environment |= {each["name"]: self._value(each) for each in container["env"]}
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        volumes = {each["name"]: each for each in spec["volumes"]}
        for path, name in mounts.items():
            if "secret" in volumes[name]:
                here = self._mounted(volumes[name]["secret"]["secretName"])
                environment = {key: value.replace(path, str(here)) for key, value in environment.items()}
        log = self.folder / f"termination-log-{workload['metadata']['name']}"
        environment["CHRONIK_TERMINATION_LOG"] = str(log)
        args = [*container["args"]]
        for path, name in mounts.items():
            if "downwardAPI" in volumes[name]:
                here = self._described(workload, volumes[name]["downwardAPI"]["items"])
                args = [each.replace(path, str(here)) for each in args]
        return unprivileged([sys.executable, "-m", "chronik", *args]), environment

    def _described(self, workload: Manifest, items: list[dict[str, Any]]) -> Path:
        """Write annotations of a pod into files, as the kubelet does, and return their folder."""
        annotations = workload["spec"]["template"]["metadata"]["annotations"]
        here = self.folder / f"described-{workload['metadata']['name']}"
        here.mkdir(exist_ok=True)
        for each in items:
            key = each["fieldRef"]["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
            (here / each["path"]).write_text(annotations[key])
        return here

    def _secret(self, name: str) -> dict[str, str]:
        path = f"/api/v1/namespaces/{self.place.name}/secrets/{name}"
        data = self.place.server.call("GET", path).body["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def _value(self, variable: dict[str, Any]) -> str:
        if "value" in variable:
            return str(variable["value"])
        ref = variable["valueFrom"]["secretKeyRef"]
        return self._secret(ref["name"])[ref["key"]]

    def _mounted(self, name: str) -> Path:
        here = self.folder / name
        here.mkdir(exist_ok=True)
        for key, text in self._secret(name).items():
            (here / key).write_text(text)
        return here

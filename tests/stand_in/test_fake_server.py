"""The stand-in server answers like kube-apiserver: both play the same scenarios, and both must say what is on record.

tests/stand_in/server/*.yaml are the scenarios, tests/stand_in/server/answers/ what kube-apiserver 1.36 answered.
To add a scenario, write its steps and run this file with --snapshot-update where kube-apiserver is found: only the
real server writes records.
"""

from __future__ import annotations

import json
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kmock
import pytest
import yaml
from support.fake_server.server import FakeServer
from support.real_server import RealServer
from support.scenario import Run
from support.ssa import field_types

from chronik.manifest import KIND_BY_NAME

if TYPE_CHECKING:
    from support.api import ApiServer

    from chronik.manifest import Manifest
    from chronik.testing import RenderCluster

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDER = Path(__file__).parent / "server"
ANSWERS = FOLDER / "answers"

DIFFERENT = {"production", "unified-production", "backup-archive", "blue-green", "patched"}
"""Examples that together have objects and fields of all sorts."""

pytestmark = pytest.mark.both


def _scenarios() -> list[Any]:
    found = []
    for file in sorted(FOLDER.glob("*.yaml")):
        for title, steps in yaml.safe_load(file.read_text()).items():
            found.append(pytest.param(file.stem, title, steps, id=f"{file.stem}: {title}"))
    return found


@pytest.mark.parametrize(("file", "title", "steps"), _scenarios())
def test_answers_as_recorded(
    server: ApiServer, file: str, title: str, steps: list[Any], request: pytest.FixtureRequest
) -> None:
    """Whatever a scenario asks, the server's answers are those that kube-apiserver gave when they were recorded."""
    transcript = Run(server, server.new_namespace()).play(steps)
    if request.config.getoption("update_snapshots"):
        if not isinstance(server, RealServer):
            pytest.skip("answers are recorded from kube-apiserver only")
        _record(file, title, transcript)

    assert _recorded(file)[title] == transcript


def test_every_record_has_its_scenario() -> None:
    """No recorded answers are left over from scenarios that are gone."""
    titles = {(param.values[0], param.values[1]) for param in _scenarios()}

    assert {(file.stem, title) for file in ANSWERS.glob("*.yaml") for title in _recorded(file.stem)} == titles


@pytest.mark.real
def test_types_are_the_servers_own(real_server: ApiServer) -> None:
    """The table of fields is what kube-apiserver's OpenAPI says; `python -m support.ssa.field_types` writes it anew."""
    documents = field_types.documents_of(real_server)

    table = field_types.table_from_openapi(documents, field_types.kept_fields())

    assert json.loads(field_types.TABLE_FILE.read_text()) == table


@pytest.mark.real
# The stand-in gives no Service a port for health checks, as servers do where externalTrafficPolicy is Local.
@pytest.mark.parametrize(
    "example",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem in DIFFERENT else pytest.mark.slow)
        for path in sorted(EXAMPLES.glob("*.yaml"))
        if path.stem != "components"
    ],
)
def test_rendered_objects_end_up_the_same(
    real_server: ApiServer, fake_server: FakeServer, example: Path, render_cluster: RenderCluster
) -> None:
    """All that chronik renders for an example, applied, applied again and posted, reads the same on both servers."""
    known = [each for each in render_cluster(example) if "monitoring.coreos.com" not in each["apiVersion"]]
    steps = [step for manifest in known for step in _applied_and_posted(manifest)]

    transcripts = [Run(one, one.new_namespace()).play(steps) for one in (real_server, fake_server)]

    assert {entry["code"] for entry in transcripts[0]} == {200, 201}
    assert transcripts[0] == transcripts[1]


def _applied_and_posted(manifest: Manifest) -> list[dict[str, Any]]:
    text = json.dumps(manifest).replace(f'"namespace": "{manifest["metadata"]["namespace"]}"', '"namespace": "${ns}"')
    plural = KIND_BY_NAME[manifest["kind"]].plural
    name = manifest["metadata"]["name"]
    apply = {"apply": f"{plural}/{name}", "as": "chronik-operator", "body": json.loads(text)}
    posted = json.loads(text)
    posted["metadata"]["name"] = f"posted-{name}"
    for port in posted.get("spec", {}).get("ports", ()):
        port.pop("nodePort", None)  # taken by the first
    return [apply, apply, {"create": f"{plural}/posted-{name}", "as": "poster", "body": posted}]


class TestRequests:
    """What both servers tell of what they were asked."""

    def test_lists_what_was_asked_of_a_namespace(self, server: ApiServer, namespace: str) -> None:
        """Each request is there once, with its verb, object, caller, query, code and, for a write, its body."""
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "1"}}
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        server.call("PATCH", f"{path}/a", body, fieldManager="m")
        server.call("GET", path, limit="5", token="nobody")
        with server.watch(path, resourceVersion="0") as watch:
            next(iter(watch))
        server.call("DELETE", f"{path}/a", dryRun="All")

        seen = server.requests_of(namespace)

        assert [(one.verb, one.method, one.name, one.user, one.code) for one in seen] == [
            ("patch", "PATCH", "a", "admin", 201),
            ("list", "GET", "", "nobody", 403),
            ("watch", "GET", "", "admin", 200),
            ("delete", "DELETE", "a", "admin", 200),
        ]
        assert [one.writes for one in seen] == [True, False, False, False]
        assert seen[0].body == body
        assert seen[0].query == {"fieldManager": "m"}
        assert {one.user_agent for one in seen} == {"suite"}
        assert {one.resource for one in seen} == {"configmaps"}

    def test_lists_a_watch_when_it_starts(self, server: ApiServer, namespace: str) -> None:
        """A watch that still runs is on the list."""
        with server.watch(f"/api/v1/namespaces/{namespace}/secrets", resourceVersion="0"):
            assert [one.verb for one in server.requests_of(namespace)] == ["watch"]


def test_applied_json_is_read_as_yaml(server: ApiServer, namespace: str) -> None:
    """Text beyond the basic plane must be sent as UTF-8: its JSON escape, a pair of surrogates, is no YAML."""
    path = f"/api/v1/namespaces/{namespace}/configmaps/a"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "\N{ROCKET}"}}

    escaped = server.call("PATCH", path, json.dumps(body).encode(), fieldManager="m")
    spelled = server.call("PATCH", path, body, fieldManager="m")

    assert (escaped.code, escaped.body["message"]) == (
        400,
        "error decoding YAML: error converting YAML to JSON: yaml: found invalid Unicode character escape code",
    )
    assert (spelled.code, spelled.body["data"]) == (201, body["data"])


class TestFaults:
    """What a test can make the stand-in do wrong."""

    def test_fails_the_next_requests_and_no_more(self, fake_server: FakeServer) -> None:
        """A scripted failure is sent as often as asked, is logged, and does not reach the store."""
        namespace = fake_server.new_namespace()
        path = f"/api/v1/namespaces/{namespace}/secrets"
        fake_server.fail_next("post", kmock.resource("v1/secrets"), code=503, retry_after=7, times=2)

        answers = [fake_server.call("POST", path, {"metadata": {"name": "a"}}) for _ in range(3)]

        assert [answer.code for answer in answers] == [503, 503, 201]
        assert answers[0].headers["retry-after"] == "7"
        assert [one.code for one in fake_server.requests_of(namespace)] == [503, 503, 201]

    def test_forgets_the_past_on_demand(self, fake_server: FakeServer) -> None:
        """After compaction a watch from before is told 410 Gone, and one that runs is cut off."""
        namespace = fake_server.new_namespace()
        path = f"/api/v1/namespaces/{namespace}/secrets"
        old = fake_server.call("GET", path).body["metadata"]["resourceVersion"]
        fake_server.call("POST", path, {"metadata": {"name": "a"}})

        with fake_server.watch(path) as running:
            events = iter(running)
            assert next(events)["type"] == "ADDED"
            fake_server.compact()
            assert list(events) == []

        with fake_server.watch(path, resourceVersion=old) as resumed:
            [event] = resumed
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)

    def test_starts_at_once(self) -> None:
        """A stand-in costs well under 0.3 s to start, so that a test can have one of its own."""
        began = time.process_time()  # on a busy machine, too
        server = FakeServer.start()
        took = time.process_time() - began
        code = server.call("GET", "/readyz").code
        server.stop()

        assert code == 200
        assert took < 0.3


@cache
def _recorded(file: str) -> dict[str, Any]:
    path = ANSWERS / f"{file}.yaml"
    return yaml.load(path.read_text(), yaml.CSafeLoader) if path.exists() else {}


def _record(file: str, title: str, transcript: list[Any]) -> None:
    titles = yaml.safe_load((FOLDER / f"{file}.yaml").read_text())
    known = _recorded(file) | {title: transcript}
    kept = {one: known[one] for one in titles if one in known}
    _recorded.cache_clear()
    ANSWERS.mkdir(exist_ok=True)
    (ANSWERS / f"{file}.yaml").write_text(
        yaml.dump(kept, Dumper=yaml.CSafeDumper, width=160, sort_keys=False, default_flow_style=None)
    )

"""`chronik apply`, `diff` and `status` against both servers, with what others have put into chronik's objects."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from support.cli_place import Done, Place, run
from support.clusters import changeable_configuration

from chronik.manifest import CLUSTER_LABEL, MANAGED_BY
from chronik.offline import assets

if TYPE_CHECKING:
    from pathlib import Path

    from chronik.manifest import Manifest


@pytest.fixture
def place(server, namespace, tmp_path):
    """Return a fresh namespace of a server, in which the cluster is as it should be."""
    place = Place(server, namespace, tmp_path)
    assert place.apply().code == 0
    return place


def outcomes(done: Done) -> dict[str, str]:
    """Return what became of objects, but for those that nothing became of."""
    (cluster,) = done.json["clusters"]
    return {each["name"]: each["outcome"] for each in cluster["objects"] if each["outcome"] != "unchanged"}


# --- Secrets ----------------------------------------------------------------------------------------------------------


def with_secret(folder: Path, fields: str) -> list[str]:
    """Write an override that makes Secrets in place of ServiceAccounts, and return the option for it."""
    text = f'apiVersion: v1\nkind: Secret\nmetadata: {{{{ part("metadata", name=name) }}}}\n{fields}\n'
    (folder / "templates").mkdir(exist_ok=True)
    (folder / "templates" / "poddisruptionbudget.yaml.j2").write_text(text)
    return ["--templates", str(folder / "templates"), "-o", "json"]


BUDGET = {"podDisruptionBudget": {"maxUnavailable": 1}}
SECRETS = ("c-controller", "c-ingest", "c-search")


def secret(place: Place) -> Manifest:
    """Return the ingest nodes' Secret."""
    data: Manifest = place.call("GET", "Secret", "c-ingest").body["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_secrets_in_plain_text_settle(place):
    """A Secret with stringData is applied once; another text, and a key that goes, are found and applied once."""
    first = with_secret(place.folder, "data: {b: YQ==, both: YQ==}\nstringData: {a: first, both: plain}")
    created = place.apply(*first, **BUDGET)
    again = place.apply(*first, **BUDGET)
    assert secret(place) == {"a": "first", "b": "a", "both": "plain"}
    second = with_secret(place.folder, "stringData: {a: correct-horse}")
    differs = place.diff(*second, **BUDGET)
    changed = place.apply(*second, **BUDGET)

    assert outcomes(created) == dict.fromkeys(SECRETS, "created")
    assert (again.code, outcomes(again)) == (0, {})
    assert (differs.code, outcomes(differs)) == (1, dict.fromkeys(SECRETS, "changed"))
    assert outcomes(changed) == dict.fromkeys(SECRETS, "changed")
    assert secret(place) == {"a": "correct-horse"}
    assert outcomes(place.apply(*second, **BUDGET)) == {}
    assert (place.diff(*second, **BUDGET).code, "correct-horse" in changed.out + differs.out) == (0, False)


def test_secrets_that_were_applied_as_text_settle(place):
    """A Secret whose stringData was applied as it stands, as an earlier version did, is taken over once."""
    option = with_secret(place.folder, "stringData: {a: first}")
    place.apply(*option, **BUDGET)
    for name in SECRETS:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "first"}}
        assert place.call("PATCH", "Secret", name, body, fieldManager="chronik-operator", force=True).code == 200
        place.edit("Secret", name, {"metadata": {"labels": {CLUSTER_LABEL: "c"} | MANAGED_BY}})

    place.apply("--force-conflicts", *option, **BUDGET)
    assert outcomes(place.apply(*option, **BUDGET)) == {}


def test_base64_in_lines_settles(place):
    """Base64 with line breaks is what the server makes of it."""
    option = with_secret(place.folder, "data:\n  a: |\n    Zmly\n    c3Q=\n")
    place.apply(*option, **BUDGET)

    assert outcomes(place.apply(*option, **BUDGET)) == {}


# --- what others add --------------------------------------------------------------------------------------------------


def inject(place: Place) -> None:
    """Add to a pod template what an injector might."""
    spec = place.call("GET", "StatefulSet", "c-ingest").body["spec"]["template"]["spec"]
    spec["containers"][0]["env"].append({"name": "DEBUG", "value": "1"})
    spec["containers"].append({"name": "sidecar", "image": "sidecar:1"})
    patch = {"spec": {"template": {"spec": {"containers": spec["containers"]}}}}
    place.edit("StatefulSet", "c-ingest", patch, "injector")


def test_additions_of_others_are_shown_and_stay(place):
    """`diff` and `status` name what others have added to pods, and who; it is no difference, and stays."""
    inject(place)
    before = place.live()
    differs, again = place.diff(), place.apply()
    status = run("status", *place.flags(), "-n", place.namespace, "c")
    as_json = run("status", *place.flags(), "-n", place.namespace, "c", "-o", "json").json["clusters"][0]["additions"]
    debug, sidecar = 'containers[name="ingest"].env[name="DEBUG"]', 'containers[name="sidecar"]'

    assert (differs.code, again.code, place.live()) == (0, 0, before)
    assert f"= StatefulSet/{place.namespace}/c-ingest: is as it should be\n" in differs.out
    assert f"added by others, and left as it is: spec.{debug} (injector), spec.{sidecar} (injector)" in differs.out
    assert "Added by others\n" in status.out
    assert f"  ingest nodes  {debug} (injector), {sidecar} (injector)\n" in status.out
    assert [(each["name"], each["path"], each["manager"]) for each in as_json] == [
        ("c-ingest", f".spec.template.spec.{path}", "injector") for path in (debug, sidecar)
    ]


def test_keys_that_others_add_to_the_configuration(place):
    """A key of somebody else in the ConfigMap is a conflict, shown by `diff` and `status`, and removed on request."""
    override = ["--templates", changeable_configuration(place.folder)]
    assert place.apply(*override, "--prune").code == 0
    place.edit("ConfigMap", "c-settings", {"data": {"extra": "x", "more": "y"}}, "kubectl-patch")
    status = run("status", *place.flags(), "-n", place.namespace, "c")
    differs, refused = place.diff(*override), place.apply(*override)
    dry = place.apply(*override, "--dry-run", "server", "--force-conflicts", "-o", "json")
    assert set(place.call("GET", "ConfigMap", "c-settings").body["data"]) >= {"extra", "more"}
    foreseen, done = place.diff(*override, "--force-conflicts"), place.apply(*override, "--force-conflicts")

    assert "  ConfigMap     data.extra (kubectl-patch), data.more (kubectl-patch)\n" in status.out
    assert (differs.code, refused.code, dry.code, foreseen.code, done.code) == (1, 4, 0, 1, 0)
    assert "    data.extra: x -> (nothing)  (held by kubectl-patch)\n" in differs.out
    assert "set 2 fields that chronik does not want\n  data.extra: kubectl-patch (update)\n" in refused.err
    assert "    data.extra: x -> (nothing)  (set by kubectl-patch)\n" in foreseen.out
    done_to = {name: outcome for name, outcome in outcomes(dry).items() if outcome != "kept"}
    assert done_to == {"c-settings": "changed"}, "but for the earlier configuration, which pods may read"
    assert "removed data.extra, set by kubectl-patch (update)\n" in done.out
    assert not {"extra", "more"} & set(place.call("GET", "ConfigMap", "c-settings").body["data"])
    assert (
        place.diff(*override).code,
        place.apply(*override, "-o", "json").json["clusters"][0]["counts"]["changed"],
    ) == (0, 0)


# --- ports ------------------------------------------------------------------------------------------------------------

EDITED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Service": ("Service", "c-ingest-client", {"spec": {"ports": [{"name": "kafka", "port": 1}]}}),
    "headless": (
        "Service",
        "c-ingest",
        {"spec": {"ports": [{"name": "kafka", "port": 1}, {"name": "metrics", "port": 8080}]}},
    ),
}


def edit_a_port(place: Place, case: str) -> str:
    """Give a port of ours another number, by hand, and return whose port it was."""
    if case in EDITED:
        kind, name, patch = EDITED[case]
        place.edit(kind, name, patch)
        return name
    live = place.call("GET", "StatefulSet", "c-ingest").body
    containers = live["spec"]["template"]["spec"]["containers"]
    containers[0]["ports"][0]["containerPort"] = 1
    place.edit("StatefulSet", "c-ingest", {"spec": {"template": {"spec": {"containers": containers}}}})
    return "c-ingest"


@pytest.mark.parametrize("case", [*EDITED, "container"])
def test_dry_run_over_an_edited_port(place, case):
    """A server-side dry run over a port that somebody gave another number says what an apply then does."""
    name = edit_a_port(place, case)
    before = place.live()
    dry = place.apply("--dry-run", "server", "--force-conflicts", "-o", "json")
    assert place.live() == before, "a dry run keeps nothing"
    refused = place.apply("--dry-run", "server", "-o", "json")
    real = place.apply("--force-conflicts", "-o", "json")

    assert (dry.code, outcomes(dry)) == (0, {name: "changed"}), dry.err
    assert (refused.code, outcomes(refused)) == (4, {name: "conflict"})
    assert (real.code, outcomes(real)) == (0, {name: "changed"})
    assert place.diff().code == 0


@pytest.mark.real  # the stand-in does not know the values of this field
def test_dry_run_over_an_edited_port_finds_what_is_wrong_beside_it(real_server, tmp_path):
    """What the server refuses of the rest of such an object, its dry run finds."""
    place = Place(real_server, real_server.new_namespace(), tmp_path)
    place.apply()
    name = edit_a_port(place, "Service")
    text = (assets.TEMPLATES / "clientservice.yaml.j2").read_text()
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / "clientservice.yaml.j2").write_text(text.replace("\nspec:\n", "\nspec:\n  sessionAffinity: Never\n"))
    done = place.apply("--dry-run", "server", "--force-conflicts", "--templates", str(wrong), "-o", "json")

    assert (done.code, outcomes(done)) == (3, {name: "failed"})

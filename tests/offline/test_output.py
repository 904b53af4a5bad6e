from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cli_place import run
from support.hostile import HOSTILE
from support.kubectl import kubectl

from chronik.errors import InputError
from chronik.manifest import KINDS, lasting_name
from chronik.offline import loading as offline
from chronik.offline import output
from chronik.offline.output import INDEX, NUMBERS, Written, file_names, write_folder
from chronik.offline.template_sets import template_reader
from chronik.render.install import InstallOptions, install_manifests
from chronik.render.templates import Templates

ROOT = Path(__file__).parents[2]


def manifest(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    """Return a small manifest."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "ns"}, **fields}


THREE = [
    manifest("ServiceAccount", "demo-controller"),
    manifest("ConfigMap", "demo-config", data={"a": "1"}),
    manifest("Service", "demo-controller", spec={"ports": [{"port": 1}]}),
]
THREE_FILES = [
    "10-serviceaccount-demo-controller.yaml",
    "21-configmap-demo-config.yaml",
    "30-service-demo-controller.yaml",
]
OLD_MARK = "# Written by chronik render, which replaces the files listed here. Keep your own changes in an overlay.\n"
OLD_INDEX = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
sortOptions: {order: fifo}
resources:
"""


def of(cluster: str, namespace: str = "ns", *kinds: str) -> list[dict[str, Any]]:
    """Return small manifests of a cluster, with the labels that they would have."""
    labels = {"chronik.stream/cluster": cluster, "app.kubernetes.io/instance": cluster}
    return [
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": cluster, "namespace": namespace, "labels": labels}}
        for kind in kinds or ("ServiceAccount", "Service")
    ]


def write_as_before(folder: Path, manifests: list[dict[str, Any]], mark: str = OLD_MARK) -> list[str]:
    """Fill a folder as versions did that numbered files by their position; return the names."""
    named = [f"{each['kind'].lower()}-{lasting_name(each).replace('.', '-')}.yaml" for each in manifests]
    names = [f"{number:02}-{name}" for number, name in enumerate(named, 1)]
    for name, each in zip(names, manifests, strict=True):
        (folder / name).write_text(yaml.safe_dump(each))
    (folder / INDEX).write_text(mark + OLD_INDEX + "".join(f"- {name}\n" for name in names))
    return names


def resources(folder: Path) -> list[str]:
    """Return what the kustomization lists."""
    found = yaml.safe_load((folder / INDEX).read_text("utf-8"))["resources"]
    assert isinstance(found, list)
    return found


def add(folder: Path, *entries: str) -> None:
    """Add entries to the kustomization's list by hand."""
    with (folder / INDEX).open("a") as index:
        index.writelines(f"- {entry}\n" for entry in entries)


def content(folder: Path) -> dict[str, str]:
    """Return all files of a folder, and what is in them."""
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*") if path.is_file()}


def age(folder: Path) -> None:
    """Make all files of a folder look old."""
    for path in folder.iterdir():
        os.utime(path, (1_000_000, 1_000_000))


def young(folder: Path) -> set[str]:
    """Return the files that were written since."""
    return {path.name for path in folder.iterdir() if path.stat().st_mtime > 1_000_000}


def test_file_names():
    """Files are numbered by kind, in apply order, and say which object is in them."""
    assert file_names(THREE) == THREE_FILES


def test_numbers_stay(render_cluster):
    """Files sort in the order in which kinds are applied, and a name is the same whatever else is rendered."""
    manifests = render_cluster(ROOT / "examples" / "production.yaml")
    names = file_names(manifests)

    assert [name[:2] for name in names] == sorted(name[:2] for name in names)
    assert [file_names([each])[0] for each in manifests] == names
    assert {kind.name for kind in KINDS} <= NUMBERS.keys()
    assert len({*NUMBERS.values()}) == len(NUMBERS)


def test_names_that_objects_would_share():
    """Objects of one kind and name have their namespaces in their names, and those of two API groups a digest."""
    several = [
        *(manifest("Service", "a") | {"metadata": {"name": "a", "namespace": each}} for each in ("x", "y")),
        manifest("Service", "b"),
        manifest("Service", "c.d"),
        manifest("Service", "c-d"),
        manifest("Service", "e"),
        manifest("Service", "e") | {"apiVersion": "serving.knative.dev/v1"},
    ]
    names = file_names(several)

    assert names[:3] == ["30-service-a.x.yaml", "30-service-a.y.yaml", "30-service-b.yaml"]
    assert len({*names}) == len(several)
    assert file_names(several[3:]) == names[3:]
    assert all(output._FILE_NAME.fullmatch(name) for name in names)


def test_one_object_twice(tmp_path):
    """Two manifests of one object cannot both be in a folder."""
    with pytest.raises(InputError, match="Service/ns/a: is rendered twice"):
        write_folder(tmp_path, [manifest("Service", "a"), manifest("Service", "a", spec={})])


@pytest.mark.parametrize(
    ("kind", "name"), [("../../etc/Passwd", "x"), ("Role", "system:a/../b"), ("K", "ünï.Cøde"), ("K", "")]
)
def test_file_names_stay_in_the_folder(kind, name):
    """No kind or name of an object leads out of the folder, or to a name that a second run would not know."""
    [found] = file_names([manifest(kind, name)])

    assert Path(found).name == found
    assert output._FILE_NAME.fullmatch(found)


def test_write(tmp_path):
    """The folder gets one file per object, and a kustomization that lists them in apply order."""
    folder = tmp_path / "new" / "folder"

    assert write_folder(folder, THREE) == Written(new=3, changed=0, unchanged=0)

    files = content(folder)
    index = yaml.safe_load(files.pop(INDEX))
    assert sorted(files) == THREE_FILES
    assert [yaml.safe_load(files[name]) for name in THREE_FILES] == THREE
    assert files[THREE_FILES[1]].startswith("# Written by chronik render for ConfigMap/ns/demo-config: the next run ")
    assert index["resources"] == THREE_FILES
    assert (index["kind"], index["sortOptions"]) == ("Kustomization", {"order": "fifo"})


def test_second_run_writes_nothing(tmp_path):
    """What has not changed is not touched, so that tools which watch the folder stay asleep."""
    write_folder(tmp_path, THREE)
    age(tmp_path)

    write_folder(tmp_path, THREE)

    assert young(tmp_path) == set()


def test_only_what_changed_is_written(tmp_path):
    """A changed object rewrites its own file and no other."""
    write_folder(tmp_path, THREE)
    age(tmp_path)

    write_folder(tmp_path, [THREE[0], manifest("ConfigMap", "demo-config", data={"a": "2"}), THREE[2]])

    assert young(tmp_path) == {THREE_FILES[1]}


def test_stale_files_are_removed(tmp_path):
    """Files of objects that are no longer rendered go; files of other people stay."""
    write_folder(tmp_path, THREE)
    (tmp_path / "README.md").write_text("ours")
    (tmp_path / "09-configmap-mine.yaml").write_text("mine")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "01-a-b.yaml").write_text("mine")

    assert write_folder(tmp_path, THREE[:1]) == Written(0, 0, 1, removed=2)
    assert sorted(content(tmp_path)) == [
        "09-configmap-mine.yaml",
        THREE_FILES[0],
        "README.md",
        INDEX,
        "sub/01-a-b.yaml",
    ]
    assert resources(tmp_path) == THREE_FILES[:1]


def test_objects_are_counted_and_not_files(tmp_path):
    """What is told is how many objects are new, changed, unchanged and removed, whatever files they are in."""
    write_folder(tmp_path, THREE)
    changed = manifest("ConfigMap", "demo-config", data={"a": "2"})
    written = write_folder(tmp_path, [THREE[0], changed, manifest("Role", "demo"), manifest("Role", "other")])

    assert written == Written(new=2, changed=1, unchanged=1, removed=1)
    assert str(written) == "wrote 4 objects: 2 new, 1 changed, 1 unchanged; removed 1"
    assert str(write_folder(tmp_path, THREE[:1])) == "wrote 1 object: 1 unchanged; removed 3"


def test_formatted_files_are_not_changed_objects(tmp_path):
    """A formatter, or Git with its own line ends, changes files and no objects."""
    write_folder(tmp_path, THREE)
    for name in THREE_FILES:
        path = tmp_path / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    assert write_folder(tmp_path, THREE) == Written(0, 0, 3)
    assert b"\r" not in (tmp_path / THREE_FILES[0]).read_bytes()


def test_stale_file_that_is_gone(tmp_path):
    """A file that somebody has removed already is no error, and is no longer listed."""
    write_folder(tmp_path, THREE)
    (tmp_path / THREE_FILES[2]).unlink()

    assert write_folder(tmp_path, THREE[:2]) == Written(0, 0, 2)
    assert resources(tmp_path) == THREE_FILES[:2]


# --- what is not chronik's --------------------------------------------------------------------------------------------

MINE = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mine, namespace: ns}\n"


@pytest.mark.parametrize("before", ["now", "by-position"])
@pytest.mark.parametrize("text", [MINE, "no: object\n", "no YAML: [\n", ""], ids=["object", "data", "broken", "empty"])
def test_listed_files_of_others_stay(tmp_path, before, text):
    """A file that somebody put there and listed stays, and stays listed, even under a name such as chronik's."""
    manifests = of("demo", "ns", "ServiceAccount", "ConfigMap", "Service")
    (write_folder if before == "now" else write_as_before)(tmp_path, manifests)
    theirs = ["mine.yaml", "04-configmap-mine.yaml", "21-configmap-mine.yaml", "21-configmap-other.yaml"]
    for name in theirs:
        (tmp_path / name).write_text(text)
    add(tmp_path, *theirs)

    assert write_folder(tmp_path, manifests[1:]) == Written(0, 0, 2, removed=1, kept=tuple(theirs[1:]))
    assert resources(tmp_path)[-4:] == theirs
    assert {(tmp_path / name).read_text() for name in theirs} == {text}


def test_resources_of_others_stay_listed(tmp_path):
    """Folders, URLs, and what is not there yet stay in the list as they were, run after run."""
    write_folder(tmp_path, THREE)
    theirs = ["../base", "https://example.com/x.yaml?ref=v1", "sub/01-pod-x.yaml", "later.yaml", "a b: c"]
    write_folder(tmp_path, THREE)
    add(tmp_path, *theirs[:4], "'a b: c'")

    for manifests in (THREE, THREE[:1], THREE):
        assert write_folder(tmp_path, manifests).kept == ()
        assert resources(tmp_path) == [*THREE_FILES[: len(manifests)], *theirs]


def test_a_copy_under_another_name_stays(tmp_path):
    """A copy of one of chronik's files, mark and all, is not taken for one if its name or its object is another."""
    write_folder(tmp_path, THREE)
    copies = [tmp_path / "21-configmap-copy.yaml", tmp_path / "21-configmap-mine.yaml"]
    text = (tmp_path / THREE_FILES[1]).read_text()
    copies[0].write_text(text)
    copies[1].write_text(text.replace("  name: demo-config", "  name: mine"))
    add(tmp_path, *(copy.name for copy in copies))

    assert write_folder(tmp_path, THREE[:1]).kept == tuple(copy.name for copy in copies)
    assert resources(tmp_path) == [THREE_FILES[0], *(copy.name for copy in copies)]
    assert all(copy.exists() for copy in copies)


@pytest.mark.parametrize("key", ["patches: [{path: p.yaml}]", "namespace: other", "images: []", "sortOptions: {}"])
def test_what_else_an_index_says_is_not_lost(tmp_path, key):
    """What somebody wrote into the kustomization beside resources would be lost, so the run ends with its name."""
    write_folder(tmp_path, THREE)
    before = (tmp_path / INDEX).read_text().replace("sortOptions:\n  order: fifo\n", "")
    (tmp_path / INDEX).write_text(before + key + "\n")

    with pytest.raises(InputError, match=f"says {key.partition(':')[0]}, which chronik did not write") as caught:
        write_folder(tmp_path, THREE[:1])

    assert caught.value.subject == str(tmp_path / INDEX)
    assert sorted(content(tmp_path)) == [*THREE_FILES, INDEX]


@pytest.mark.parametrize(
    ("text", "message"),
    [("<<<<<<< HEAD\na: [\n", "is no YAML any more"), ("resources: {a: 1}\n", "lists no resources any more")],
)
def test_an_index_that_is_broken(tmp_path, text, message):
    """A kustomization that cannot be read is an error; without it the files are known by their marks."""
    write_folder(tmp_path, THREE)
    index = tmp_path / INDEX
    index.write_text(index.read_text().partition("\n")[0] + "\n" + text)

    with pytest.raises(InputError, match=message):
        write_folder(tmp_path, THREE)
    index.unlink()

    assert write_folder(tmp_path, THREE[1:]) == Written(0, 0, 2, removed=1)
    assert sorted(content(tmp_path)) == [*THREE_FILES[1:], INDEX]


def test_a_file_with_a_merge_conflict(tmp_path):
    """One of chronik's files in which Git left both sides is written anew."""
    write_folder(tmp_path, THREE)
    path = tmp_path / THREE_FILES[1]
    path.write_text(path.read_text() + "<<<<<<< HEAD\na: 1\n=======\n>>>>>>> theirs\n")

    write_folder(tmp_path, THREE)

    assert yaml.safe_load(path.read_text()) == THREE[1]


@pytest.mark.parametrize("listed", [False, True])
def test_foreign_file_in_the_way(tmp_path, listed):
    """A file that chronik did not write is never replaced, listed or not; nothing else is written either."""
    if listed:
        write_folder(tmp_path, THREE)
    (tmp_path / THREE_FILES[1]).write_text("precious")
    before = content(tmp_path)

    with pytest.raises(InputError, match="is in the way, and chronik did not write it") as caught:
        write_folder(tmp_path, [*THREE, manifest("Role", "new")])

    assert caught.value.subject == str(tmp_path / THREE_FILES[1])
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", [THREE_FILES[1], INDEX])
def test_a_folder_in_the_way(tmp_path, name):
    """A folder where a file should be is named as it is called; nothing is written."""
    (tmp_path / name).mkdir()

    with pytest.raises(InputError, match="is a folder, and chronik writes a file of this name") as caught:
        write_folder(tmp_path, THREE)

    assert caught.value.subject == str(tmp_path / name)
    assert content(tmp_path) == {}


@pytest.mark.parametrize("name", ["kustomization.yml", "Kustomization"])
@pytest.mark.parametrize("ours", [False, True])
def test_another_kustomization(tmp_path, name, ours):
    """A kustomization under one of its other names is not joined by a second one, which kubectl would refuse."""
    if ours:
        write_folder(tmp_path, THREE)
    (tmp_path / name).write_text("resources: []\n")
    before = content(tmp_path)

    with pytest.raises(InputError, match="is a kustomization, and a folder can have but one") as caught:
        write_folder(tmp_path, THREE[:1])

    assert caught.value.subject == str(tmp_path / name)
    assert "your own kustomization.yaml" in caught.value.hint
    assert content(tmp_path) == before


def test_foreign_kustomization(tmp_path):
    """A kustomization.yaml that chronik did not write is never replaced."""
    (tmp_path / INDEX).write_text("resources: []\n")

    with pytest.raises(InputError, match="was not written by chronik render, and would be replaced") as caught:
        write_folder(tmp_path, THREE)

    assert "your own kustomization.yaml" in caught.value.hint
    assert content(tmp_path) == {INDEX: "resources: []\n"}


def test_listed_paths_outside_are_ignored(tmp_path):
    """A kustomization that was tampered with makes chronik remove nothing but files of its own names, in its folder."""
    folder = tmp_path / "folder"
    write_folder(folder, THREE)
    outside, inside = tmp_path / "01-pod-x.yaml", folder / "notes.yaml"
    for path in (outside, inside):
        path.write_text("precious")
    with (folder / INDEX).open("a") as index:
        index.write("- ../01-pod-x.yaml\n- notes.yaml\n- /etc/hosts\n")

    assert write_folder(folder, THREE[:1]) == Written(0, 0, 1, removed=2)
    assert outside.read_text() == inside.read_text() == "precious"
    assert resources(folder) == [THREE_FILES[0], "../01-pod-x.yaml", "notes.yaml", "/etc/hosts"]


def test_run_that_was_cut_short(tmp_path, monkeypatch):
    """After a run that stopped half way, the next one finishes the work; it does not take its own files for foreign."""
    write_folder(tmp_path, THREE[1:])
    real_write, count = output._write, 0

    def full_disk(path: Path, text: str) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise OSError(28, "No space left on device", str(path))
        real_write(path, text)

    monkeypatch.setattr(output, "_write", full_disk)
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        write_folder(tmp_path, THREE)
    monkeypatch.undo()

    write_folder(tmp_path, THREE)

    assert sorted(content(tmp_path)) == [*THREE_FILES, INDEX]
    assert yaml.safe_load((tmp_path / INDEX).read_text())["resources"] == THREE_FILES


@pytest.mark.parametrize("cut", range(1, 5))
def test_cut_short_at_any_file(tmp_path, monkeypatch, cut):
    """Wherever a run of other objects stops, kustomize still builds what was there, and the next run finishes."""
    write_folder(tmp_path, THREE[1:])
    real_write, count = output._write, 0

    def full_disk(path: Path, text: str) -> None:
        nonlocal count
        count += 1
        if count == cut:
            raise OSError(28, "No space left on device", str(path))
        real_write(path, text)

    monkeypatch.setattr(output, "_write", full_disk)
    with pytest.raises(InputError):
        write_folder(tmp_path, [*THREE[:2], manifest("Role", "new")])
    monkeypatch.undo()

    assert resources(tmp_path) == THREE_FILES[1:]
    assert {*THREE_FILES[1:]} <= content(tmp_path).keys()
    write_folder(tmp_path, [*THREE[:2], manifest("Role", "new")])
    assert sorted(content(tmp_path)) == [THREE_FILES[0], "11-role-new.yaml", THREE_FILES[1], INDEX]


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("write_bytes", OSError(28, "No space left on device")),
        ("write_bytes", PermissionError(13, "Permission denied")),
        ("write_bytes", KeyboardInterrupt()),
        ("replace", OSError(30, "Read-only file system")),
        ("replace", KeyboardInterrupt()),
    ],
    ids=repr,
)
def test_no_draft_is_left_behind(tmp_path, monkeypatch, what, error):
    """Whatever ends a run, no half-written file stays, and an error names the file that was to be written."""
    write_folder(tmp_path, THREE[1:])
    before = content(tmp_path)
    real_write = Path.write_bytes

    def fail(path: Path, *arguments: Any) -> None:
        if what == "write_bytes":
            real_write(path, arguments[0][:10])
        if isinstance(error, OSError):
            error.filename = str(path)
        raise error

    monkeypatch.setattr(Path, what, fail)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        write_folder(tmp_path, THREE)
    monkeypatch.undo()

    assert content(tmp_path) == before
    assert not isinstance(error, OSError) or getattr(caught.value, "subject", "") == str(tmp_path / THREE_FILES[0])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_disk_that_is_full(tmp_path):
    """A process that may write no more ends with 2, names the file, and leaves no draft."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))"
    code = f"{limit}; import sys; from chronik.cli.main import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "render", str(ROOT / "examples" / "standard.yaml"), "--output-dir", "out"]
    environment = {**os.environ, "XDG_CACHE_HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: out/10-serviceaccount-standard-controller.yaml: cannot be written: File too large"
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_drafts_of_a_run_that_was_killed(tmp_path):
    """A draft that was left by a process which could not clean up goes with the next run; others' files stay."""
    write_folder(tmp_path, THREE)
    for name in (".40-statefulset-x.yaml.new", f".{INDEX}.new", ".mine.yaml.new"):
        (tmp_path / name).write_text("half")

    write_folder(tmp_path, THREE)

    assert sorted(content(tmp_path)) == [".mine.yaml.new", *THREE_FILES, INDEX]


# --- folders of versions that numbered files by their position --------------------------------------------------------


def test_files_get_their_new_names(tmp_path):
    """A folder with files numbered by position gets the new names, and keeps none of the old ones."""
    write_as_before(tmp_path, [*THREE, *of("demo")])

    assert write_folder(tmp_path, THREE) == Written(0, 0, 3, removed=2, gone=("ns/demo",))
    assert sorted(content(tmp_path)) == [*THREE_FILES, INDEX]
    assert resources(tmp_path) == THREE_FILES


def test_a_real_folder_gets_new_names(tmp_path, render_cluster):
    """A whole cluster's folder of an earlier version is taken over without an orphan, and kustomize builds the same."""
    manifests = render_cluster(ROOT / "examples" / "production.yaml")
    old = write_as_before(tmp_path, manifests)
    (tmp_path / "90-secret-mine.yaml").write_text(MINE)
    add(tmp_path, "90-secret-mine.yaml")
    fewer = [each for each in manifests if "search" not in each["metadata"]["name"]]

    written = write_folder(tmp_path, fewer)

    assert written == Written(0, 0, len(fewer), len(manifests) - len(fewer), kept=("90-secret-mine.yaml",))
    assert not {*old} & {*content(tmp_path)}
    assert list(yaml.safe_load_all(kubectl("kustomize", str(tmp_path)))) == [*fewer, yaml.safe_load(MINE)]


@pytest.mark.parametrize("cut", range(4))
def test_new_names_after_a_run_that_was_cut_short(tmp_path, monkeypatch, cut):
    """Wherever taking over an old folder stops, the next run leaves no old file behind."""
    write_as_before(tmp_path, of("demo", "ns", "ServiceAccount", "Role", "Service"))
    manifests = of("demo", "ns", "ServiceAccount", "Service")
    real_write, count = output._write, 0

    def full_disk(path: Path, text: str) -> None:
        nonlocal count
        count += 1
        if count > cut:
            raise OSError(28, "No space left on device", str(path))
        real_write(path, text)

    monkeypatch.setattr(output, "_write", full_disk)
    with contextlib.suppress(InputError):
        write_folder(tmp_path, manifests)
    monkeypatch.undo()
    write_folder(tmp_path, manifests)

    assert sorted(content(tmp_path)) == ["10-serviceaccount-demo.yaml", "30-service-demo.yaml", INDEX]


def test_an_old_folder_of_the_operators(tmp_path):
    """A folder that an earlier `chronik install` wrote is taken over in the same way, and by no other command."""
    mark = OLD_MARK.replace("render", "install")
    manifests = install_manifests(InstallOptions(), Templates(template_reader()), offline.definitions())
    write_as_before(tmp_path, manifests, mark)

    with pytest.raises(InputError, match="was not written by chronik render"):
        write_folder(tmp_path, THREE)

    assert write_folder(tmp_path, manifests, "chronik install") == Written(0, 0, len(manifests))
    assert resources(tmp_path) == file_names(manifests)
    assert sorted(content(tmp_path)) == sorted([*file_names(manifests), INDEX])


# --- other clusters ---------------------------------------------------------------------------------------------------


def test_clusters_of_one_name_in_one_call(tmp_path):
    """Two clusters of one name in two namespaces have files of their own, and one of them can go."""
    both = [*of("demo", "a"), *of("demo", "b")]
    write_folder(tmp_path, both)
    names = ["10-serviceaccount-demo.a.yaml", "30-service-demo.a.yaml"]
    names += [name.replace(".a.", ".b.") for name in names]

    assert resources(tmp_path) == names
    assert write_folder(tmp_path, both) == Written(0, 0, 4)
    assert write_folder(tmp_path, both[2:]) == Written(0, 0, 2, removed=2, gone=("a/demo",))
    assert resources(tmp_path) == ["10-serviceaccount-demo.yaml", "30-service-demo.yaml"]
    assert write_folder(tmp_path, both) == Written(2, 0, 2)


def test_a_cluster_of_the_same_name_elsewhere(tmp_path):
    """A cluster that takes the place of another namespace's of its name does so with a word on both."""
    write_folder(tmp_path, of("demo", "a"))

    assert write_folder(tmp_path, of("demo", "b")) == Written(2, 0, 0, 2, replaced=(("a/demo", "b/demo"),))


def test_other_clusters(tmp_path):
    """What would leave nothing of a folder but other clusters is refused, unless what is in it has been removed."""
    write_folder(tmp_path, of("demo", "a"))
    before = content(tmp_path)

    with pytest.raises(InputError, match="holds a/demo, and nothing of that would be left") as caught:
        write_folder(tmp_path, of("other", "a"))
    assert f"rm {tmp_path}/[0-9]*.yaml" in caught.value.hint
    assert content(tmp_path) == before

    for path in tmp_path.glob("[0-9]*.yaml"):
        path.unlink()
    assert write_folder(tmp_path, of("other", "a")) == Written(2, 0, 0)
    assert resources(tmp_path) == ["10-serviceaccount-other.yaml", "30-service-other.yaml"]


def test_what_the_command_says(tmp_path, monkeypatch):
    """`chronik render` says what became of objects, and of clusters and files that somebody may miss."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "examples" / "standard.yaml").read_text().replace("namespace: default", "namespace: a")
    Path("a.yaml").write_text(text)
    Path("b.yaml").write_text(text.replace("namespace: a", "namespace: b"))

    def render(*files: str) -> str:
        done = run("render", *files, "--output-dir", "out")
        assert done.code == 0, done
        return done.err

    first = render("a.yaml", "b.yaml")
    assert re.fullmatch(r"out: wrote (\d+) objects: \1 new\n", first)
    (tmp_path / "out" / "21-configmap-mine.yaml").write_text(MINE)
    add(tmp_path / "out", "21-configmap-mine.yaml")
    assert render("a.yaml").splitlines()[1:] == [
        "note: b/standard is gone from out: no document describes it any more",
        "note: out/21-configmap-mine.yaml stays: chronik render did not write it",
    ]
    assert render("b.yaml").splitlines()[1:3] == [
        "warning: a/standard is gone from out: b/standard took its place",
        "  If these are two clusters, render both in one call, or into a folder each.",
    ]


def test_folder_that_is_a_file(tmp_path):
    """A path that cannot be a folder is an error that names it."""
    path = tmp_path / "file"
    path.write_text("x")

    with pytest.raises(InputError, match="cannot be written: File exists") as caught:
        write_folder(path, THREE)

    assert caught.value.subject == str(path)


def test_links_are_replaced_and_not_followed(tmp_path):
    """A symbolic link in place of one of chronik's files is replaced; what it points to stays as it was."""
    target = tmp_path / "target"
    target.write_text("precious")
    folder = tmp_path / "folder"
    write_folder(folder, THREE)
    (folder / THREE_FILES[0]).unlink()
    (folder / THREE_FILES[0]).symlink_to(target)

    write_folder(folder, THREE)

    assert target.read_text() == "precious"
    assert yaml.safe_load((folder / THREE_FILES[0]).read_text()) == THREE[0]


def test_kustomize_builds_the_folder(tmp_path):
    """`kubectl kustomize` takes the folder and makes of it the same objects in the same order."""
    # What kustomize reads well and then cannot write: C1 controls, non-characters, and two words of YAML 1.1.
    unwritable = re.compile("<<|=|.*[\x7f-\x9f\ufffe\uffff].*")
    hostile = [text for text in HOSTILE if len(text) < 1_000 and not unwritable.fullmatch(text)]
    manifests = [
        manifest("Service", "b", spec={"ports": []}),
        manifest("ConfigMap", "a", data={f"k{number}": text for number, text in enumerate(hostile)}),
        manifest("ServiceAccount", "c"),
        {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "d"}, "spec": {"values": hostile}},
    ]
    write_folder(tmp_path, manifests)

    built = list(yaml.safe_load_all(kubectl("kustomize", str(tmp_path))))

    assert built == manifests

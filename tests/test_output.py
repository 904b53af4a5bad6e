from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.hostile import HOSTILE
from tools.kubectl import kubectl

from chronik.errors import InputError
from chronik.offline import output
from chronik.offline.output import INDEX, file_names, write_folder


def manifest(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    """Return a small manifest."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "ns"}, **fields}


THREE = [
    manifest("ServiceAccount", "demo-controller"),
    manifest("ConfigMap", "demo-config", data={"a": "1"}),
    manifest("Service", "demo-controller", spec={"ports": [{"port": 1}]}),
]
THREE_FILES = [
    "01-serviceaccount-demo-controller.yaml",
    "02-configmap-demo-config.yaml",
    "03-service-demo-controller.yaml",
]


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
    """Files are numbered in apply order and say which object is in them."""
    assert file_names(THREE) == THREE_FILES


def test_file_names_of_many():
    """With many objects the numbers grow, so that sorting by name is still the apply order."""
    names = file_names([manifest("Pod", f"p{number}") for number in range(1, 121)])

    assert names == sorted(names)
    assert (names[0], names[-1]) == ("001-pod-p1.yaml", "120-pod-p120.yaml")


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

    assert write_folder(folder, THREE) == []

    files = content(folder)
    index = yaml.safe_load(files.pop(INDEX))
    assert sorted(files) == THREE_FILES
    assert [yaml.safe_load(files[name]) for name in THREE_FILES] == THREE
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
    """Files of objects that are no longer rendered go, and are named; files of other people stay."""
    write_folder(tmp_path, THREE)
    (tmp_path / "README.md").write_text("ours")
    (tmp_path / "09-configmap-mine.yaml").write_text("mine")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "01-a-b.yaml").write_text("mine")

    stale = write_folder(tmp_path, THREE[:1])

    assert stale == THREE_FILES[1:]
    assert sorted(content(tmp_path)) == [
        THREE_FILES[0],
        "09-configmap-mine.yaml",
        "README.md",
        INDEX,
        "sub/01-a-b.yaml",
    ]


def test_stale_file_that_is_gone(tmp_path):
    """A file that somebody has removed already is no error."""
    write_folder(tmp_path, THREE)
    (tmp_path / THREE_FILES[2]).unlink()

    assert write_folder(tmp_path, THREE[:2]) == [THREE_FILES[2]]


def test_foreign_file_in_the_way(tmp_path):
    """A file that chronik did not write is never replaced; nothing else is written either."""
    (tmp_path / THREE_FILES[1]).write_text("precious")

    with pytest.raises(InputError, match="is in the way, and chronik did not write it") as caught:
        write_folder(tmp_path, THREE)

    assert caught.value.subject == str(tmp_path / THREE_FILES[1])
    assert content(tmp_path) == {THREE_FILES[1]: "precious"}


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

    assert write_folder(folder, THREE) == []
    assert outside.read_text() == inside.read_text() == "precious"


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

"""What `--from-rev` reads from git, and what it says where git has nothing to read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from support.cli_place import SPEC, run

from chronik.offline import sources
from chronik.offline.revisions import Revision

pytestmark = pytest.mark.usefixtures("repository")


def git(*arguments: str) -> None:
    """Run git in the present folder, as nobody in particular."""
    who = {f"GIT_{role}_{what}": "x@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | who | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", *arguments], check=True, capture_output=True, env=environment)


def write(path: str, *, name: str | None = None, **spec: object) -> None:
    """Write a document, by default of a cluster that has the file's name."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "apiVersion": "chronik.stream/v1alpha1",
        "kind": "ChronikCluster",
        "metadata": {"name": name or file.stem, "namespace": "demo"},
        "spec": SPEC | spec,
    }
    file.write_text(yaml.safe_dump(document))


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """Return a repository with one commit, `main`, and work in it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write("clusters/a.yaml")
    write("clusters/b.yaml")
    write("clusters/deep/c.yaml")
    Path("clusters/kustomization.yaml").write_text("resources: [a.yaml]\n")
    Path("clusters/link.yaml").symlink_to("a.yaml")
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "one")
    return folder


def names(path: str, *, recursive: bool = False) -> list[str]:
    """Return the files that are read for a name."""
    return sorted(source.name for source in Revision("main").before(path, recursive=recursive).sources)


def test_files_and_folders_are_read_as_they_were(repository):
    """A file is what it was in the revision, a folder what was in it, and in the folders below it with -R."""
    before = Path("clusters/a.yaml").read_bytes()
    write("clusters/a.yaml", ingestNodes=3)
    Path("clusters/b.yaml").unlink()
    folder = [f"main:clusters/{name}.yaml" for name in ("a", "b", "kustomization")]

    assert Revision("main").before("clusters/a.yaml").sources == [sources.Source(folder[0], before)]
    assert names("clusters") == names(str(repository / "clusters")) == folder
    assert names("clusters", recursive=True) == sorted([*folder, "main:clusters/deep/c.yaml"])
    assert names(".", recursive=True) == names("clusters", recursive=True)
    assert names(".") == []


def test_paths_are_those_of_the_place_one_works_in(repository, monkeypatch):
    """In a folder of the repository, and from outside of it, names lead to the same files."""
    monkeypatch.chdir(repository / "clusters")
    assert names("a.yaml") == names("../clusters/a.yaml") == ["main:clusters/a.yaml"]
    monkeypatch.chdir("/")
    assert names(str(repository / "clusters/a.yaml")) == ["main:clusters/a.yaml"]


def test_links_are_not_followed():
    """A link in a revision is an error that names it, as what it leads to may be outside of the repository."""
    assert [str(error.message) for error in Revision("main").before("clusters").errors] == [
        "is a link, and links are not followed in a revision"
    ]


def diff(*arguments: str) -> tuple[int, str, str]:
    """Compare with the revision `main`."""
    return run("diff", "--from-rev", "main", *arguments)


def test_documents_that_are_as_they_were():
    """Where no document differs from the revision nothing would change."""
    assert diff("-f", "clusters/a.yaml") == (0, "demo/a: 17 unchanged\n", "")


def test_documents_that_came_and_went():
    """A document that the revision lacks is a new cluster, one that is gone is a cluster to delete."""
    write("clusters/new.yaml")
    Path("clusters/b.yaml").unlink()
    Path("clusters/link.yaml").unlink()
    git("rm", "-q", "--cached", "clusters/link.yaml")
    git("commit", "-qm", "no link")
    done = diff("-f", "clusters")

    assert done[0] == 1
    assert "demo/a: 17 unchanged\n" in done[1]
    assert "demo/new: 17 to create, 0 unchanged\n" in done[1]
    assert "note: demo/b: no document describes it any more." in done[1]
    assert "`chronik delete b -n demo` does. 3 volumes with data stay.\n" in done[1]


@pytest.mark.parametrize("path", ["clusters/b.yaml", "gone"])
def test_what_was_named_itself_may_be_gone(path):
    """A file or a folder that is gone, and was in the revision, is no mistake: its clusters are to be deleted."""
    write("gone/b.yaml")
    git("add", "-A")
    git("commit", "-qm", "two")
    for file in [Path(path), *Path(path).glob("*")][::-1]:
        file.unlink() if file.is_file() else file.rmdir()
    done = diff("-f", path)

    assert done[0] == 1
    assert done[1].endswith("demo/b: 17 to delete, 0 unchanged\n")


def test_a_name_moves_with_its_file():
    """A document that moved to another file is compared with the one that it was."""
    Path("clusters/b.yaml").rename("clusters/deep/b.yaml")
    done = diff("-f", "clusters/deep", "-f", "clusters/b.yaml")

    assert done == (0, "demo/b: 17 unchanged\ndemo/c: 17 unchanged\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from-rev", "nothing", "-f", "clusters/a.yaml"], "git has no revision 'nothing' in "),
        (["--from-rev", "--help", "-f", "clusters/a.yaml"], "git has no revision '--help' in "),
        (["--from-rev", "main", "-f", "clusters/nothing.yaml"], "no such file or folder"),
        (["--from-rev", "main", "-f", "-"], "standard input has no revisions"),
        (["--from-rev", "main", "-f", "/"], "is in no git repository: not a git repository"),
        (["--from-rev", "main", "--from", "clusters/a.yaml", "-f", "clusters/a.yaml"], "give one of them"),
        (["--from", "-", "-f", "-"], "standard input can be read only once"),
        (["--from", "clusters/a.yaml", "--context", "x", "-f", "clusters/a.yaml"], "leave --kubeconfig and --context"),
        (["--from-rev", "", "-f", "clusters/a.yaml"], "it is empty"),
    ],
)
def test_mistakes(arguments, message):
    """What cannot be compared is an error with exit code 2 that says why, and nothing is printed."""
    done = run("diff", *arguments)

    assert (done.code, done.out) == (2, "")
    assert message in done.err


def test_without_git(repository, monkeypatch):
    """Where git is not installed, that is said, and what does without it."""
    monkeypatch.setenv("PATH", str(repository))
    done = diff("-f", "clusters/a.yaml")

    assert (done[0], done[1]) == (2, "")
    assert "git cannot be run: No such file or directory" in done[2]
    assert "--from OLD" in done[2]


def test_an_old_document_in_error_is_named_by_its_revision():
    """A document that is not valid any more is told with the place that it has in the revision."""
    write("clusters/a.yaml", ingestNodes=-1)
    git("add", "-A")
    git("commit", "-qm", "bad")
    write("clusters/a.yaml")
    done = diff("-f", "clusters/a.yaml")

    assert done[0] == 2
    assert "--> main:clusters/a.yaml:" in done[2]


def test_a_transition_that_admission_refuses():
    """A change that a rule forbids is shown, and is an error in all forms, with the exit code of an invalid input."""
    write("clusters/a.yaml", storage=SPEC["storage"] | {"size": "5Gi"})
    text = diff("-f", "clusters/a.yaml")
    as_json = run("diff", "--from-rev", "main", "-f", "clusters/a.yaml", "-o", "json")
    markdown = diff("-f", "clusters/a.yaml", "-o", "markdown")

    assert [text[0], as_json.code, markdown[0]] == [2, 2, 2]
    assert "the API server will refuse this document in place of the old one" in text[2]
    assert as_json.json["clusters"][0]["error"]["reason"] == "InvalidTransition"
    assert "error: the API server will refuse this document" in markdown[1]

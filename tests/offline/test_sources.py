from __future__ import annotations

import io
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from chronik.cli import main as cli
from chronik.errors import InputError, TemplateError
from chronik.offline import assets, sources
from chronik.offline.sources import read_argument
from chronik.offline.template_sets import template_reader

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Return a folder of files, and work in it."""
    for name in (
        "b.yaml",
        "a.yml",
        "c.json",
        "d.txt",
        "deep/e.yaml",
        "deep/er/f.yaml",
        "empty/.keep",
        "only/deep/g.yaml",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "folder.yaml").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_inputs(names, *, recursive=False):
    """Return name and content of what the names stand for; raise the first error."""
    arguments = [read_argument(name, recursive=recursive) for name in names]
    for error in (error for argument in arguments for error in argument.errors):
        raise error
    return [tuple(source) for argument in arguments for source in argument.sources]


def errors_of(name, *, recursive=False):
    """Return the errors of what a name stands for, by their subjects."""
    return {error.subject: error.message for error in read_argument(name, recursive=recursive).errors}


@contextmanager
def as_nobody():
    """Do something as a user whom file permissions concern; root may read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Put content on standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.usefixtures("folder")
def test_files():
    """Files are read in the order in which they are named."""
    assert read_inputs(["d.txt", "a.yml"]) == [("d.txt", b"d.txt"), ("a.yml", b"a.yml")]


def test_folder(folder):
    """A folder stands for its YAML and JSON files, by name; -R goes deeper."""
    assert [name for name, _ in read_inputs(["."])] == ["a.yml", "b.yaml", "c.json"]
    assert [name for name, _ in read_inputs(["deep"])] == ["deep/e.yaml"]
    assert [name for name, _ in read_inputs(["deep"], recursive=True)] == ["deep/e.yaml", "deep/er/f.yaml"]
    assert [name for name, _ in read_inputs([str(folder / "deep")])] == [str(folder / "deep" / "e.yaml")]


def test_stdin(monkeypatch, folder):
    """A dash stands for standard input, even where a file has that name."""
    (folder / "-").write_text("a file")
    stdin(monkeypatch, b"kind: \xff")

    assert read_inputs(["-"]) == [("<stdin>", b"kind: \xff")]
    assert read_inputs(["./-"]) == [("./-", b"a file")]


@pytest.mark.parametrize(
    ("name", "recursive", "message", "hint"),
    [
        ("b.yml", False, "b.yml: no such file or folder", "Did you mean b.yaml?"),
        ("deep/ee.yaml", False, "deep/ee.yaml: no such file or folder", "Did you mean deep/e.yaml?"),
        ("dep", False, "dep: no such file or folder", "Did you mean deep?"),
        ("nothing-like-it-at-all", False, "no such file or folder", ""),
        ("", False, "a file name is empty", "Is the variable set that it comes from?"),
        ("no/where.yaml", False, "no/where.yaml: no such file or folder", "The folder no is not there either."),
        ("b.yaml/x.yaml", False, "b.yaml/x.yaml: cannot be read: Not a directory", ""),
        ("x" * 300, False, "cannot be read: File name too long", ""),
        (
            "empty",
            False,
            "empty: no .yaml, .yml, .json file in this folder",
            "Name a file; -R looks into folders below it.",
        ),
        ("empty", True, "empty: no .yaml, .yml, .json file in this folder", "Name a file."),
        ("only", False, "only: no .yaml, .yml, .json file in this folder", "-R looks into folders below it."),
        ("folder.yaml", False, "folder.yaml: no .yaml, .yml, .json file in this folder", "Name a file"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_wrong_names(name, recursive, message, hint):
    """A name that leads nowhere is an error that names it, and what may have been meant."""
    with pytest.raises(InputError) as caught:
        read_inputs([name], recursive=recursive)

    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert bool(hint) is bool(caught.value.hint)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs a file that cannot be opened, such as a socket")
@pytest.mark.usefixtures("folder")
def test_unreadable():
    """A file that cannot be opened is an error that says why; root may open any but a socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.yaml")
        with pytest.raises(InputError, match=r"^socket.yaml: cannot be read: No such device or address$"):
            read_inputs(["socket.yaml"])


@pytest.mark.parametrize(
    ("closed", "arguments", "named"),
    [
        ("deep", ["-f", "deep/e.yaml"], "deep/e.yaml"),
        ("deep", ["-f", "deep"], "deep"),
        ("deep", ["-f", "deep", "-R"], "deep"),
        ("deep/er", ["-f", "deep", "-R"], "deep/er"),
        ("deep/e.yaml", ["-f", "deep"], "deep/e.yaml"),
        ("b.yaml", ["b.yaml"], "b.yaml"),
        ("own/parts", ["-f", "b.yaml", "--templates", "own"], "own/parts"),
        ("own/role.yaml.j2", ["-f", "b.yaml", "--templates", "own"], "own/role.yaml.j2"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="needs file permissions")
def test_forbidden(folder, capsys, closed, arguments, named):
    """What may not be read is an error that names it, wherever it is found, and no traceback."""
    example = (EXAMPLES / "minimal.yaml").read_text()
    (folder / "own" / "parts").mkdir(parents=True)
    (folder / "own" / "role.yaml.j2").write_text(template_reader()("role.yaml.j2"))
    for path in (*folder.parents[:3], folder, *folder.rglob("*")):
        path.chmod(0o755)
    for path in folder.rglob("*.yaml"):
        if path.is_file():
            path.write_text(example)
    cli.run(["validate", *arguments, "nowhere.yaml"])  # loads all modules, which nobody may not read either
    capsys.readouterr()
    (folder / closed).chmod(0)
    with as_nobody():
        code = cli.run(["validate", *arguments])
    (folder / closed).chmod(0o755)

    error = capsys.readouterr().err
    assert code == 2
    assert "Permission denied" in error
    assert re.search(rf"(?:--> |error: ){re.escape(named)}[:\n]", error)


def test_a_link_that_leads_nowhere(folder):
    """A link to nothing is an error where it could be a document, or a folder to look into."""
    (folder / "gone.yaml").symlink_to("nowhere.yaml")
    (folder / "deep" / "notes.txt").symlink_to("nowhere")
    (folder / "deep" / "more").symlink_to("nowhere")

    assert errors_of(".") == {"gone.yaml": "is a link to nowhere.yaml, which does not exist"}
    assert errors_of("gone.yaml") == errors_of(".")
    assert errors_of("deep") == {}
    assert errors_of("deep", recursive=True) == {"deep/more": "is a link to nowhere, which does not exist"}


def test_links_in_a_circle(folder):
    """Links that lead to each other, and one to a folder that it lies in, have no end, and are errors."""
    (folder / "deep" / "one.yaml").symlink_to("two.yaml")
    (folder / "deep" / "two.yaml").symlink_to("one.yaml")
    (folder / "deep" / "er" / "up").symlink_to("..")
    circle = "cannot be read: Too many levels of symbolic links"

    assert errors_of("deep") == {"deep/one.yaml": circle, "deep/two.yaml": circle}
    assert errors_of("deep", recursive=True) == errors_of("deep") | {
        "deep/er/up": "is a link to a folder that it lies in, which has no end"
    }
    read = read_argument("deep", recursive=True).sources
    assert [source.name for source in read] == ["deep/e.yaml", "deep/er/f.yaml"]


def test_links_to_files_and_folders(folder):
    """A link is as good as what it leads to, and a folder that two names lead to is read once."""
    (folder / "deep" / "linked.yaml").symlink_to("../b.yaml")
    (folder / "deep" / "aaa").symlink_to("../only")
    (folder / "deep" / "again").symlink_to("../only")
    (folder / "deep" / "here").symlink_to("er")

    assert [name for name, _ in read_inputs(["deep"])] == ["deep/e.yaml", "deep/linked.yaml"]
    assert [name for name, _ in read_inputs(["deep"], recursive=True)] == [
        "deep/aaa/deep/g.yaml",
        "deep/e.yaml",
        "deep/er/f.yaml",
        "deep/linked.yaml",
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file(folder):
    """What would never end, a pipe for one, is not read because it lies in a folder; named itself, it is."""
    os.mkfifo(folder / "deep" / "pipe.yaml")

    assert errors_of("deep") == {"deep/pipe.yaml": "is no regular file: name it with -f to read it"}
    with ThreadPoolExecutor() as pool:
        read = pool.submit(read_inputs, ["deep/pipe.yaml"])
        (folder / "deep" / "pipe.yaml").write_text("a: 1")
        assert read.result(10) == [("deep/pipe.yaml", b"a: 1")]


def test_upper_case_endings(folder):
    """A file whose ending is in capitals is not left out."""
    (folder / "deep" / "B.YAML").write_text("b")

    assert [name for name, _ in read_inputs(["deep"])] == ["deep/B.YAML", "deep/e.yaml"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("https://a.example/b.yaml?x=1&y", "Fetch it: curl -fsSL 'https://a.example/b.yaml?x=1&y' | chronik … -f -"),
        ("HTTP://example.com/a.yaml", "Fetch it: curl -fsSL HTTP://example.com/a.yaml | chronik … -f -"),
        ("file:///etc/a.yaml", "Name the file: /etc/a.yaml"),
        ("s3://bucket/a.yaml", "Fetch it, and name the file, or pipe it into chronik … -f -"),
    ],
)
def test_urls(name, hint):
    """A URL is not read, and the error says how to do without."""
    (error,) = read_argument(name).errors

    assert (error.subject, error.hint) == (name, hint)
    assert error.message == "is a URL, and chronik reads files and standard input alone"


def test_too_large(monkeypatch, folder):
    """A file larger than the limit is refused before it is parsed; one of just that size is not."""
    monkeypatch.setattr(sources, "MAX_BYTES", 1 << 20)
    (folder / "big.yaml").write_bytes(b"x" * (1 << 20))
    assert len(read_inputs(["big.yaml"])[0][1]) == 1 << 20

    (folder / "big.yaml").write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(InputError, match=r"^big.yaml: larger than 1 MiB, which no set of clusters needs$"):
        read_inputs(["big.yaml"])
    stdin(monkeypatch, b"x" * ((1 << 20) + 1))
    with pytest.raises(InputError, match=r"^-: larger than 1 MiB"):
        read_inputs(["-"])


def test_own_templates():
    """Without overrides every template comes from chronik; a name that is none is None."""
    read = template_reader()

    assert read("service.yaml.j2") == (assets.TEMPLATES / "service.yaml.j2").read_text("utf-8")
    assert read("nope.yaml.j2") is None
    assert read("service.yaml.j2/x") is None


def test_overrides(tmp_path):
    """A file of an overrides folder replaces chronik's of that name, and new parts join in; the rest stays."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "service.yaml.j2").write_bytes("\ufeffa: é\r\nb: 1\r\n".encode())
    (tmp_path / "parts" / "mine.yaml.j2").write_text("x: 1")
    (tmp_path / "README.md").write_text("words")

    read = template_reader(str(tmp_path))

    assert read("service.yaml.j2") == "a: é\nb: 1\n"
    assert read("parts/mine.yaml.j2") == "x: 1"
    assert read("role.yaml.j2") == template_reader()("role.yaml.j2")
    assert read("parts/env.yaml.j2") == template_reader()("parts/env.yaml.j2")


@pytest.mark.parametrize(
    ("file", "message", "hint"),
    [
        ("services.yaml.j2", "replaces no template of chronik's, and its first line", "Did you mean service.yaml.j2?"),
        ("env.yaml.j2", "does not say for what it adds an object", "{# for: cluster #} or {# for: component #}"),
        (
            "sub/role.yaml.j2",
            "what adds an object lies at the top",
            "New parts go in parts/. Known: backup-job.yaml.j2, backup-receiver.yaml.j2, backup-serviceaccount",
        ),
        ("own.j2", "the name of a template ends in .yaml.j2", ""),
    ],
)
def test_overrides_that_override_nothing(tmp_path, file, message, hint):
    """A template that replaces none and does not say what it adds is an error that says what to write."""
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("a: 1")

    with pytest.raises(TemplateError) as caught:
        template_reader(str(tmp_path))

    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.location is not None
    assert caught.value.location.file == str(path)


@pytest.mark.parametrize("files", [["notes.txt"], []])
def test_overrides_without_a_template(tmp_path, files):
    """A folder that holds no template is an error that lists the names that it can replace."""
    for name in files:
        (tmp_path / name).write_text("a: 1")

    with pytest.raises(InputError) as caught:
        template_reader(str(tmp_path))

    assert caught.value.message == "holds no *.yaml.j2 file"
    known = "backup-job.yaml.j2, backup-receiver.yaml.j2, backup-serviceaccount.yaml.j2, backup-slot-job.yaml.j2"
    assert f"can replace {known}" in caught.value.hint
    assert caught.value.subject == str(tmp_path)


def test_no_overrides_folder(tmp_path):
    """A folder of overrides that is not there is an error."""
    with pytest.raises(InputError, match="nope: no such folder of templates"):
        template_reader(str(tmp_path / "nope"))


def test_template_that_is_a_dead_link(tmp_path):
    """A template that is a link to nothing is an error, and does not give way to chronik's own."""
    (tmp_path / "role.yaml.j2").symlink_to("nowhere")
    (tmp_path / "service.yaml.j2").write_text("a: 1")

    with pytest.raises(InputError, match=r"role.yaml.j2: is a link to nowhere, which does not exist"):
        template_reader(str(tmp_path))


def test_template_that_is_no_text(tmp_path):
    """A template that is not UTF-8 is an error that names the file."""
    (tmp_path / "role.yaml.j2").write_bytes(b"a: \xff")

    with pytest.raises(InputError, match=r"role.yaml.j2: cannot be read: .*utf-8"):
        template_reader(str(tmp_path))("role.yaml.j2")

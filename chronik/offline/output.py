"""Write rendered manifests into a folder for GitOps: one file per object, and a kustomization.yaml that lists them.

A file is named after its object, and its number is its kind's place in the order of apply, so that a name never changes
because other objects come or go. The folder may hold other files, and the kustomization.yaml may list them. chronik
replaces and removes what it wrote, which it knows by the mark in the first line and by the object below; what `render`
wrote is not `install`'s, and the other way round.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from chronik.documents.writer import content_digest, to_yaml
from chronik.errors import InputError
from chronik.manifest import CLUSTER_LABEL, INSTANCE_LABEL, lasting_name
from chronik.offline.sources import KUSTOMIZATIONS
from chronik.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from chronik.manifest import Manifest

INDEX = KUSTOMIZATIONS[0]
NUMBERS = {
    "Namespace": 0,
    "CustomResourceDefinition": 1,
    "ValidatingAdmissionPolicy": 2,
    "ValidatingAdmissionPolicyBinding": 3,
    "ServiceAccount": 10,
    "Role": 11,
    "ClusterRole": 12,
    "RoleBinding": 20,
    "ConfigMap": 21,
    "ClusterRoleBinding": 22,
    "Service": 30,
    "NetworkPolicy": 31,
    "StatefulSet": 40,
    "Deployment": 41,
    "PodDisruptionBudget": 50,
    "HorizontalPodAutoscaler": 60,
    "ServiceMonitor": 70,
    "PodMonitor": 71,
}
"""The number of each kind's files: the stage of an apply in tens, and in it the kind. They are in people's repositories
and never change; a new kind gets a number that is free."""
_OTHERS = 90

_FILE_NAME = re.compile(r"\d{2,}-[a-z0-9.-]+\.yaml")
_DRAFT = re.compile(rf"\.(?:{_FILE_NAME.pattern}|{re.escape(INDEX)})\.new")
_INDEX_MARK = "# Written by {}. Resources that you add stay; whatever else you want to change belongs in an overlay.\n"
_FILE_MARK = "# Written by {} for {}: the next run replaces this file, or removes it if the object is gone.\n"
_INDEX = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "sortOptions": {"order": "fifo"}}
_OPERATOR = ("app.kubernetes.io/name", "chronik-operator")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OVERLAY = f"Choose an empty folder, and refer to it from your own {INDEX}."

Identity = tuple[str, str, str, str]
"""Which object: group, kind, namespace and name."""


class Written(NamedTuple):
    """What became of a folder: objects that are `new`, `changed`, `unchanged` or `removed`, by their number.

    `replaced` are clusters whose place another namespace's of the same name took, each with that one; `gone` are other
    clusters that left with all their objects; `kept` are files under names of chronik's that it did not write.
    """

    new: int
    changed: int
    unchanged: int
    removed: int = 0
    replaced: tuple[tuple[str, str], ...] = ()
    gone: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = ((self.new, "new"), (self.changed, "changed"), (self.unchanged, "unchanged"))
        shares = ", ".join(f"{count} {what}" for count, what in counts if count)
        removed = f"; removed {self.removed}" if self.removed else ""
        return f"wrote {counted(self.new + self.changed + self.unchanged, 'object')}: {shares}{removed}"


def file_names(manifests: Sequence[Manifest]) -> list[str]:
    """Return a file name for each manifest: `21-configmap-demo-config.yaml`.

    Of objects that would share one, those of several namespaces, for example, each gets its own namespace added.
    """
    names = [_stem(manifest) for manifest in manifests]
    for more in (_namespace, _digest):
        taken = Counter(names)
        named = zip(names, manifests, strict=True)
        names = [f"{name}{more(manifest)}" if taken[name] > 1 else name for name, manifest in named]
    return [f"{name}.yaml" for name in names]


def _stem(manifest: Manifest) -> str:
    number = NUMBERS.get(manifest["kind"], _OTHERS)
    return f"{number:02}-{_slug(manifest['kind'])}-{_slug(lasting_name(manifest))}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", name.lower())


def _namespace(manifest: Manifest) -> str:
    namespace = manifest["metadata"].get("namespace", "")
    return f".{_slug(namespace)}" if namespace else ""


def _digest(manifest: Manifest) -> str:
    return f".{content_digest(_identity(manifest))[:8]}"


def _identity(manifest: Manifest) -> Identity:
    metadata = manifest["metadata"]
    group = manifest["apiVersion"].rpartition("/")[0]
    return group, manifest["kind"], metadata.get("namespace", ""), lasting_name(manifest)


def _mark(manifest: Manifest, writer: str) -> str:
    """Return the first line of a manifest's file. It names the object, so a copy made for another is not chronik's."""
    return _FILE_MARK.format(writer, "/".join(filter(None, _identity(manifest)[1:])))


def write_folder(folder: Path, manifests: Sequence[Manifest], writer: str = "chronik render") -> Written:
    """Write the manifests and their index, remove what is no longer needed, and return what became of the objects.

    `writer` is the command that the folder belongs to.

    Raises:
        InputError: the folder cannot be written, something in the way is not chronik's, or it holds other clusters.
    """
    planned = _planned(manifests, writer)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        entries = _read_index(folder, writer)
        ours = _own_files(folder, entries, planned, writer)
        for name, file in planned.items():
            if name not in ours:
                _refuse_in_the_way(folder / name, file.manifest, writer, in_index=name in entries)
        replaced, gone = _lost_clusters(folder, [file.manifest for file in ours.values()], manifests)
        stale = {name: file for name, file in ours.items() if name not in planned}
        kept = [each for each in entries if each not in {*planned, *stale} and not _is_missing(folder, each)]
        for name, file in planned.items():
            _write(folder / name, file.text)
        _remove(folder, [name for name, file in stale.items() if not file.marked])  # while the index lists them
        _write(folder / INDEX, _INDEX_MARK.format(writer) + to_yaml({**_INDEX, "resources": [*planned, *kept]}))
        _remove(folder, stale)
        _remove(folder, [entry.name for entry in folder.iterdir() if _DRAFT.fullmatch(entry.name)])
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", subject=str(error.filename or folder)) from error
    told = tuple(each for each in kept if _FILE_NAME.fullmatch(each))
    return _counted(ours.values(), manifests)._replace(replaced=replaced, gone=gone, kept=told)


class _File(NamedTuple):
    """A file of chronik's. One that is not `marked` is of a version that left it to the index to tell whose it is."""

    text: str
    manifest: Manifest
    marked: bool


def _planned(manifests: Sequence[Manifest], writer: str) -> dict[str, _File]:
    """Return the files that the folder is to have, by name."""
    twice = [identity for identity, count in Counter(map(_identity, manifests)).items() if count > 1]
    if twice:
        subject = "/".join(filter(None, twice[0]))
        raise InputError("is rendered twice, and a folder can hold it but once", subject=subject)
    files = [_File(_mark(each, writer) + to_yaml(each), each, marked=True) for each in manifests]
    return dict(zip(file_names(manifests), files, strict=True))


def _read_index(folder: Path, writer: str) -> list[str]:
    """Return the resources that the folder's kustomization lists, if there is one."""
    for name in KUSTOMIZATIONS[1:]:
        if os.path.lexists(folder / name):
            raise InputError(
                "is a kustomization, and a folder can have but one", subject=str(folder / name), hint=_OVERLAY
            )
    path = folder / INDEX
    _refuse_folder(path)
    try:
        text = path.read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    if not re.match(rf"# Written by {writer}[,.]", text):
        raise InputError(f"was not written by {writer}, and would be replaced", subject=str(path), hint=_OVERLAY)
    try:
        index = yaml.load(text, _LOADER)  # noqa: S506  # a safe one, whichever there is
    except yaml.YAMLError as error:
        hint = f"Correct it, or delete it: {writer} writes it anew."
        raise InputError("is no YAML any more", subject=str(path), hint=hint) from error
    return _resources(index, path)


def _resources(index: Any, path: Path) -> list[str]:
    """Return what an index lists. What else a person wrote into it would be lost, so it is refused."""
    entries = index.get("resources") or [] if isinstance(index, dict) else None
    if not isinstance(entries, list) or not all(isinstance(each, str) for each in entries):
        raise InputError("lists no resources any more", subject=str(path), hint="Delete it: it is written anew.")
    added = [key for key, value in index.items() if key != "resources" and _INDEX.get(key) != value]
    if added:
        message = f"says {added[0]}, which chronik did not write, and which would be lost"
        hint = f"Move it to a {INDEX} of your own, in another folder, that refers to this one."
        raise InputError(message, subject=str(path), hint=hint)
    return entries


def _own_files(folder: Path, entries: Sequence[str], planned: Mapping[str, _File], writer: str) -> dict[str, _File]:
    """Return the files that `writer` wrote: by their mark, and by the object that their name says is in them.

    Files of versions that knew no mark are those that the index lists, with an object that is to be written now or that
    bears chronik's labels.
    """
    written = {_identity(file.manifest) for file in planned.values()}
    found = {}
    for path in sorted(folder.iterdir()):
        if not _FILE_NAME.fullmatch(path.name) or path.is_symlink() or not path.is_file():
            continue
        text = path.read_text("utf-8", errors="replace")
        if path.name in planned and planned[path.name].text == text:
            found[path.name] = planned[path.name]
            continue
        manifest = _manifest(text)
        if manifest is None or not _fits(path.name, manifest):
            continue
        marked = text.startswith(_mark(manifest, writer))
        if marked or (path.name in entries and (_identity(manifest) in written or _is_labelled(manifest))):
            found[path.name] = _File(text, manifest, marked)
    return found


def _fits(name: str, manifest: Manifest) -> bool:
    """Return whether a file's name is one that some version of chronik would give a manifest, whatever the number."""
    stem = _stem(manifest).partition("-")[2]
    return re.fullmatch(rf"\d+-{re.escape(stem)}(\..+)?\.yaml", name) is not None


def _manifest(text: str) -> Manifest | None:
    """Return the one object of a file, or None if that is not what is in it."""
    try:
        manifest: Manifest = yaml.load(text, _LOADER)  # noqa: S506  # as above
        _identity(manifest)
        _stem(manifest)
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return manifest


def _is_labelled(manifest: Manifest) -> bool:
    labels = manifest["metadata"].get("labels") or {}
    return CLUSTER_LABEL in labels or _OPERATOR in labels.items()


def _refuse_in_the_way(path: Path, manifest: Manifest, writer: str, *, in_index: bool) -> None:
    """Check that a file may be written: nothing is there, or what bears the mark, if nothing else that can be read."""
    if not os.path.lexists(path):
        return
    _refuse_folder(path)
    if in_index and path.is_symlink():
        return
    text = path.read_text("utf-8", errors="replace") if path.is_file() and not path.is_symlink() else ""
    found = _manifest(text)
    if text.startswith(_mark(manifest, writer)) or (in_index and found and _identity(found) == _identity(manifest)):
        return
    hint = "Move it, or choose another folder."
    raise InputError("is in the way, and chronik did not write it", subject=str(path), hint=hint)


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise InputError("is a folder, and chronik writes a file of this name", subject=str(path), hint="Move it.")


def _lost_clusters(
    folder: Path, before: Iterable[Manifest], after: Iterable[Manifest]
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Return which clusters gave way to one of their name in another namespace, and which others are gone.

    Documents without a namespace get theirs from the command line, so that the same name is one cluster that has moved,
    most likely. Where other names are rendered into a folder, it is the wrong folder.
    """
    old, new = _clusters(before), _clusters(after)
    places = {name: namespace for namespace, name in new - old}
    lost = sorted(old - new)
    replaced = [(each, (places[each[1]], each[1])) for each in lost if each[1] in places]
    if old and new and not (old & new or replaced):
        raise InputError(
            f"holds {listed('/'.join(each) for each in lost)}, and nothing of that would be left",
            subject=str(folder),
            hint="Render all clusters of a folder in one call, or into a folder each.\n"
            f"To use this one for others, first remove what is in it: rm {folder}/[0-9]*.yaml",
        )
    return (
        tuple(("/".join(each), "/".join(successor)) for each, successor in replaced),
        tuple("/".join(each) for each in lost if each[1] not in places),
    )


def _clusters(manifests: Iterable[Manifest]) -> set[tuple[str, str]]:
    """Return namespace and name of the clusters, or of the operators, that manifests belong to."""
    metadata = [manifest["metadata"] for manifest in manifests]
    named = [(each.get("namespace"), (each.get("labels") or {}).get(INSTANCE_LABEL)) for each in metadata]
    return {(str(namespace), str(name)) for namespace, name in named if namespace and name}


def _is_missing(folder: Path, entry: str) -> bool:
    """Return whether an entry is a file of chronik's that a person has removed."""
    return _FILE_NAME.fullmatch(entry) is not None and not os.path.lexists(folder / entry)


def _counted(before: Iterable[_File], after: Iterable[Manifest]) -> Written:
    old = {_identity(file.manifest): file.manifest for file in before}
    new = {_identity(manifest): manifest for manifest in after}
    same = sum(old.get(identity) == manifest for identity, manifest in new.items())
    both = len(old.keys() & new.keys())
    return Written(len(new) - both, both - same, same, len(old) - both)


def _remove(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and leave no draft behind; leave it alone if it says so already."""
    content = text.encode()
    if not path.is_symlink() and path.is_file() and path.read_bytes() == content:
        return
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except BaseException as error:
        with suppress(OSError):
            draft.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise

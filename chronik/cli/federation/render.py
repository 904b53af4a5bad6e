"""What `chronik render` does with ChronikFederations: a folder for each member, or all of it on standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chronik.cli.federation.members import members_option
from chronik.cli.main import print_manifests, show_note
from chronik.errors import InputError
from chronik.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from chronik.federation.validation import ValidFederation
    from chronik.manifest import Manifest

WRITER = "chronik render"


def federation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say what of a federation is printed."""
    objects = click.option(
        "--objects", is_flag=True, help="Of a ChronikFederation: the objects of each member, not its ChronikCluster."
    )
    return members_option(objects(command))


def render_all(
    federations: Sequence[ValidFederation],
    members: Sequence[str],
    *,
    objects: bool,
    templates: str | None,
    domain: str,
) -> dict[str, list[Manifest]]:
    """Return what the members of all federations get, by member.

    Raises:
        InputError: two federations have a member of the same name, or a member cannot be rendered.
    """
    if not federations:
        return {}
    from chronik.offline.federations import render_federation  # noqa: PLC0415  # most documents are no federations

    made: dict[str, list[Manifest]] = {}
    for each in federations:
        found = render_federation(each, members, objects=objects, templates=templates, domain=domain)
        both = [name for name in found if name in made]
        if both:
            message = f"another federation has a member {both[0]} as well"
            raise InputError(message, subject=str(each.federation.key), hint="Render one federation at a time.")
        made |= found
    return made


def write_members(made: dict[str, list[Manifest]], output: str, output_dir: str) -> None:
    """Write a folder for each member, and say which folders of members are left from earlier."""
    for name, manifests in made.items():
        print_manifests(manifests, output, str(Path(output_dir) / name), WRITER)
    left = sorted(each.name for each in Path(output_dir).iterdir() if each.name not in made and _is_ours(each))
    for name in left:
        show_note(f"{output_dir}/{name} stays: no member of that name was rendered")


def _is_ours(folder: Path) -> bool:
    """Return whether a folder was written for a member, by this command."""
    index = folder / "kustomization.yaml"
    try:
        return folder.is_dir() and index.read_text("utf-8", errors="replace").startswith(f"# Written by {WRITER}")
    except OSError:
        return False


def valid_text(federations: Sequence[ValidFederation]) -> str:
    """Say how many federations are valid, and of how many members they are."""
    members = sum(len(each.federation.members) for each in federations)
    return f"{counted(len(federations), 'federation')} of {counted(members, 'member')} valid"

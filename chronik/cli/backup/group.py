"""The groups `chronik backup` and `chronik restore`, and which commands are in them."""

from __future__ import annotations

import click

from chronik.cli.backup.jobs import base, metastore, receive, restore_metastore
from chronik.cli.backup.stored import forget, list_command, record, verify


@click.group()
def backup() -> None:
    """Back up what a cluster keeps, and look after what was backed up."""


@click.group()
def restore() -> None:
    """Restore what was backed up."""


for _command in (metastore, base, receive, list_command, verify, forget, record):
    backup.add_command(_command)
restore.add_command(restore_metastore)

"""The groups `chronik backup` and `chronik restore`, and which commands are in them."""

from __future__ import annotations

import click

from chronik.cli.backup.cluster import create, delete, describe, list_backups
from chronik.cli.backup.importing import import_backups
from chronik.cli.backup.jobs import base, drop_slot, metastore, receive, restore_metastore
from chronik.cli.backup.restore import RestoreGroup, restore_cluster
from chronik.cli.backup.stored import catalog, forget, record, verify


@click.group()
def backup() -> None:
    """Back up what a cluster keeps, and look after what was backed up."""


@click.group(cls=RestoreGroup)
def restore() -> None:
    """Restore what was backed up.

    `chronik restore NAME` is short for `chronik restore cluster NAME`.
    """


for _command in (create, list_backups, describe, delete, import_backups):
    backup.add_command(_command)
for _command in (metastore, base, receive, drop_slot, catalog, verify, forget, record):
    backup.add_command(_command)
for _command in (restore_cluster, restore_metastore):
    restore.add_command(_command)

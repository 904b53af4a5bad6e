"""What the commands that work on a store have in common: their options, and the line of JSON that they end with.

They run in Jobs: options can be given as variables of the environment, and the last line of stdout is the result, which
the kubelet keeps as the termination message too.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chronik.cli import parameters
from chronik.cli.main import print_data
from chronik.errors import ChronikError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronik.metastore.encryption import Key
    from chronik.metastore.runs import Context, Request
    from chronik.metastore.store import Store

MOST_TOLD = 4096
"""Bytes that the kubelet keeps of a termination message."""
_LONGEST_MESSAGE = 1000


def _url(*, required: bool) -> Callable[..., Any]:
    return click.option(
        "--store",
        "url",
        envvar="CHRONIK_STORE",
        required=required,
        default=None if required else "",
        metavar="URL",
        help="s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER.  [$CHRONIK_STORE]",
    )


_STORE_OPTIONS = (
    click.option(
        "--store-endpoint",
        "endpoint",
        envvar="CHRONIK_STORE_ENDPOINT",
        default="",
        metavar="URL",
        help="Of an S3 server of your own.  [$CHRONIK_STORE_ENDPOINT]",
    ),
    click.option(
        "--store-region",
        "region",
        envvar="CHRONIK_STORE_REGION",
        default="",
        metavar="NAME",
        help="Of the bucket.  [$CHRONIK_STORE_REGION]",
    ),
    click.option(
        "--store-path-style",
        "path_style",
        is_flag=True,
        envvar="CHRONIK_STORE_PATH_STYLE",
        help="Name the bucket in the path, as most S3 servers of one's own want it.  [$CHRONIK_STORE_PATH_STYLE]",
    ),
    click.option(
        "--store-credentials",
        "credentials",
        envvar="CHRONIK_STORE_CREDENTIALS",
        type=parameters.FOLDER,
        metavar="DIR",
        help="Where the credentials' Secret is mounted.  [$CHRONIK_STORE_CREDENTIALS; default: the cloud's chain]",
    ),
    click.option(
        "--encryption-key",
        "key_files",
        multiple=True,
        envvar="CHRONIK_BACKUP_KEY",
        type=click.Path(),
        metavar="FILE",
        help="File with 32 bytes. The first encrypts, all decrypt. Repeatable.  [$CHRONIK_BACKUP_KEY]",
    ),
)
id_option = click.option("--id", "identity", required=True, metavar="ID", help="Which backup.")
result_option = click.option(
    "--termination-log",
    envvar="CHRONIK_TERMINATION_LOG",
    type=parameters.FILE,
    metavar="FILE",
    help="Write the result there, too.  [$CHRONIK_TERMINATION_LOG]",
)
request_options = (
    click.option("--cluster", default="", metavar="NAMESPACE/NAME", help="Whose metastore this is."),
    click.option(
        "--describe", "description", type=parameters.FILE, metavar="FILE", help="JSON to keep in the backup's manifest."
    ),
)


class StoreAccess:
    """A store and the keys for it, as options name them; opened when they are needed."""

    def __init__(self, settings: Mapping[str, Any], key_files: tuple[str, ...]) -> None:
        self._settings = settings
        self._key_files = key_files

    @property
    def settings(self) -> dict[str, str]:
        """Where the store is, as options say it: url, endpoint and region."""
        return {name: str(self._settings[name] or "") for name in ("url", "endpoint", "region")}

    def open(self) -> Store:
        """Return the store."""
        from chronik.metastore.store import StoreSettings, open_store  # noqa: PLC0415  # `--help` stays quick

        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
        credentials = self._settings["credentials"]
        given = {**self._settings, "credentials": Path(credentials) if credentials else None}
        return open_store(StoreSettings(**given, account=account))

    def keys(self) -> list[Key]:
        """Return the keys."""
        from chronik.metastore.encryption import read_key  # noqa: PLC0415

        return [read_key(Path(file)) for file in self._key_files]


def store_options(command: Callable[..., Any], *, required: bool = True) -> Callable[..., Any]:
    """Give a command the options of a store; it gets them as one `access`. Without `required` it may do without one."""

    @wraps(command)
    def given(*, key_files: tuple[str, ...], **others: Any) -> Any:
        settings = {name: others.pop(name) for name in ("url", "endpoint", "region", "path_style", "credentials")}
        return command(access=StoreAccess(settings, key_files), **others)

    found: Callable[..., Any] = given
    for option in reversed((_url(required=required), *_STORE_OPTIONS)):
        found = option(found)
    return found


def context() -> Context:
    """Return what a run works with: the clock of this machine, and stderr."""
    from chronik.metastore.runs import Context  # noqa: PLC0415

    return Context(lambda: datetime.now(UTC), lambda text: click.echo(text, err=True))


def request(identity: str, cluster: str, description: str | None) -> Request:
    """Return what is to be backed up.

    Raises:
        InputError: the id cannot be one, or the description is no JSON.
    """
    from chronik.metastore.runs import Request, check_id  # noqa: PLC0415

    return Request(check_id(identity), cluster, read_json(description) if description else None)


def read_json(path: str) -> Any:
    """Return what a file of JSON says.

    Raises:
        InputError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"this is no file of JSON: {error}", subject=path) from error


def report(command: str, identity: str, termination_log: str | None, work: Callable[[], dict[str, Any]]) -> None:
    """Do the work, and end with one line of JSON that says how it went, errors too."""
    subject = {"command": command} | ({"backup": identity} if identity else {})
    try:
        result = {"result": "ok", **subject, **work()}
    except ChronikError as error:
        failed = {
            "result": "failed",
            **subject,
            "reason": error.reason,
            "retry": error.retry_class,
            "message": _short(f"{error.subject}: {error.message}" if error.subject else error.message),
            "hint": _short(error.hint),
        }
        _write(failed, termination_log)
        raise
    _write(result, termination_log)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def _write(result: dict[str, Any], termination_log: str | None) -> None:
    line = json.dumps(result, ensure_ascii=False)
    sys.stderr.flush()
    print_data(line + "\n")
    if termination_log:
        try:
            Path(termination_log).write_bytes(line.encode()[:MOST_TOLD])
        except OSError as error:
            click.echo(f"warning: {termination_log}: it cannot be written: {error.strerror}", err=True)

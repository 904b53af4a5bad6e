"""`chronik mirror-probe`: options in, the probe of a mirror until it is told to stop, an exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from chronik.cli import parameters
from chronik.tasks import ended

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from chronik.probe.measure import Measure


def _file(name: str, words: str) -> Callable[..., Any]:
    return click.option(name, type=parameters.FILE, metavar="FILE", help=words)


def _expressions(name: str, into: str, words: str) -> Callable[..., Any]:
    help_text = f"Expression of {words}. Repeatable."
    return click.option(name, into, multiple=True, type=parameters.FIELD, metavar="EXPRESSION", help=help_text)


@click.command("mirror-probe")
@click.option("--source", required=True, type=parameters.SOURCE_NAME, metavar="NAME", help="The source that is copied.")
@click.option(
    "--cluster",
    type=parameters.CLUSTER_NAME,
    metavar="NAME",
    help="The cluster that is copied to, as metrics are to call it.",
)
@click.option(
    "--source-server",
    "source_servers",
    multiple=True,
    required=True,
    type=parameters.SERVER,
    metavar="HOST:PORT",
    help="A broker of the source. Repeatable.",
)
@click.option("--source-tls", is_flag=True, help="Speak to the source over TLS.")
@_file("--source-ca-file", "Certificates that the source is trusted by.  [default: those of this machine]")
@_file("--source-cert-file", "Certificate that the source knows the probe by.")
@_file("--source-key-file", "Key of that certificate.")
@click.option(
    "--source-mechanism",
    type=click.Choice(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
    help="How a password is proven to the source.",
)
@_file("--source-user-file", "User of the source.")
@_file("--source-password-file", "Password of that user.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    required=True,
    type=parameters.SERVER,
    metavar="HOST:PORT",
    help="A broker of the cluster that is copied to. Repeatable.",
)
@click.option(
    "--max-lag",
    type=parameters.Seconds(min=1, max=86_400),
    metavar="SECONDS",
    help="How far the copy may be behind. Without it nothing is measured.",
)
@_file("--ca-file", "Certificates that the target is trusted by; with them, it is spoken to over TLS.")
@_file("--cert-file", "Certificate that the target knows the probe by.")
@_file("--key-file", "Key of that certificate.")
@click.option(
    "--alias",
    type=parameters.CLUSTER_NAME,
    metavar="NAME",
    help="What the target is called in replication. Without it, it is not told what is missing there.",
)
@click.option("--identity", is_flag=True, help="Copied topics are called as at the source.")
@_expressions("--topic", "topics", "topics that are copied")
@_expressions("--not-topic", "not_topics", "topics that are not")
@_expressions("--group", "groups", "consumer groups that are followed")
@_expressions("--not-group", "not_groups", "consumer groups that are not")
@click.option("--host", type=parameters.ADDRESS, metavar="ADDRESS", help="Address to answer at.  [default: all]")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to answer at.")
def mirror_probe(source: str, max_lag: float | None, host: str | None, port: int, **given: Any) -> int:
    """Measure how far a mirror is behind its source, and answer probes and metrics.

    This is the container beside each mirror of spec.replication. It needs the extra chronik[kafka].
    """
    from chronik.probe.measure import Measure  # noqa: PLC0415  # help and completion stay quick

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it says of lost connections, we say once
    measure = Measure(source, max_lag, time.time, given["cluster"] or "")
    asyncio.run(_until_told(measure, measuring(measure, given), host or "", port))
    return 0


def measuring(measure: Measure, given: Mapping[str, Any]) -> list[Coroutine[Any, Any, Any]]:
    """Return what there is to do, by the options that were given."""
    from chronik.probe.brokers import Brokers  # noqa: PLC0415  # as above
    from chronik.probe.compare import compare  # noqa: PLC0415
    from chronik.probe.copies import Selection  # noqa: PLC0415
    from chronik.probe.heartbeats import follow, try_source  # noqa: PLC0415

    def files(prefix: str) -> dict[str, Any]:
        return {name: given[prefix + name] or "" for name in ("ca_file", "cert_file", "key_file")}

    here = Brokers(given["targets"], **files(""))
    source = Brokers(
        given["source_servers"],
        **files("source_"),
        tls=given["source_tls"],
        mechanism=given["source_mechanism"] or "",
        user_file=given["source_user_file"] or "",
        password_file=given["source_password_file"] or "",
    )
    work = [try_source(measure, source.servers)]
    if measure.max_lag is not None:
        work.append(follow(measure, here))
    if given["alias"]:
        expressions = {name: given[name] for name in ("topics", "not_topics", "not_groups")}
        groups = given["groups"] or (".*",)
        selected = Selection(measure.source, given["alias"], identity=given["identity"], groups=groups, **expressions)
        work.append(compare(measure, selected, source, here))
    return work


async def _until_told(measure: Measure, work: list[Coroutine[Any, Any, Any]], host: str, port: int) -> None:
    """Work and answer until SIGTERM or Ctrl-C, or until the work cannot go on."""
    from chronik.probe.server import serving  # noqa: PLC0415  # help and completion stay quick

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    tasks = [asyncio.create_task(each) for each in (*work, stop.wait())]
    try:
        async with serving(measure, host, port) as opened:
            logging.getLogger("chronik.probe").info("answers on port %d for the mirror of %s", opened, measure.source)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        await ended(*tasks)

"""`chronik mirror-probe`: options in, the probe of a mirror until it is told to stop, an exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from chronik.cli import parameters

if TYPE_CHECKING:
    from chronik.probe.heartbeats import Brokers
    from chronik.probe.measure import Measure


@click.command("mirror-probe")
@click.option("--source", required=True, type=parameters.SOURCE_NAME, metavar="NAME", help="The source that is copied.")
@click.option(
    "--source-server",
    "source_servers",
    multiple=True,
    required=True,
    type=parameters.SERVER,
    metavar="HOST:PORT",
    help="A broker of the source. Repeatable.",
)
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
@click.option(
    "--ca-file",
    type=parameters.FILE,
    metavar="FILE",
    help="Certificates that the target is trusted by; with them, it is spoken to over TLS.",
)
@click.option(
    "--cert-file", type=parameters.FILE, metavar="FILE", help="Certificate that the target knows the probe by."
)
@click.option("--key-file", type=parameters.FILE, metavar="FILE", help="Key of that certificate.")
@click.option("--host", type=parameters.ADDRESS, metavar="ADDRESS", help="Address to answer at.  [default: all]")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port to answer at.")
def mirror_probe(
    source: str,
    source_servers: tuple[str, ...],
    targets: tuple[str, ...],
    max_lag: float | None,
    ca_file: str | None,
    cert_file: str | None,
    key_file: str | None,
    host: str | None,
    port: int,
) -> int:
    """Measure how far a mirror is behind its source, and answer probes and metrics.

    This is the container beside each mirror of spec.replication. It needs the extra chronik[kafka].
    """
    from chronik.probe.heartbeats import Brokers  # noqa: PLC0415  # help and completion stay quick
    from chronik.probe.measure import Measure  # noqa: PLC0415

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it says of lost connections, we say once
    measure = Measure(source, max_lag, time.time)
    brokers = Brokers(targets, ca_file or "", cert_file or "", key_file or "")
    asyncio.run(_until_told(measure, brokers, source_servers, host or "", port))
    return 0


async def _until_told(
    measure: Measure, brokers: Brokers, source_servers: tuple[str, ...], host: str, port: int
) -> None:
    """Measure and answer until SIGTERM or Ctrl-C, or until the work cannot go on."""
    from chronik.probe.heartbeats import follow, try_source  # noqa: PLC0415
    from chronik.probe.server import serving  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    async with serving(measure, host, port) as opened:
        logging.getLogger("chronik.probe").info("answers on port %d for the mirror of %s", opened, measure.source)
        work = [asyncio.create_task(try_source(measure, source_servers))]
        if measure.max_lag is not None:
            work.append(asyncio.create_task(follow(measure, brokers)))
        ended = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*work, ended], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {ended}:
                task.result()
        finally:
            for task in (*work, ended):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

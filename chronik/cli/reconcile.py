"""`chronik reconcile`: options in, the operator until it is told to stop, an exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from chronik.cli import parameters
from chronik.cli.main import domain_option, templates_configmap_option, templates_option
from chronik.cli.streams import ReaderGone, use_colour
from chronik.errors import ChronikError
from chronik.manifest import FEATURES, FEDERATION_FEATURE
from chronik.report.page import visible

if TYPE_CHECKING:
    from chronik.operator.app import Options
    from chronik.operator.lease import Terms

OPERATOR_NAMESPACE = "chronik-operator-system"  # as install.NAMESPACE, which takes longer to load than all options
_log = logging.getLogger("chronik.operator")
_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


@click.command()
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    multiple=True,
    type=parameters.NAMESPACE,
    metavar="NAME",
    help="Namespace to look after. Repeatable.  [default: all]",
)
@click.option(
    "-l",
    "--selector",
    type=parameters.SELECTOR,
    metavar="SELECTOR",
    help="Label selector: look after these ChronikClusters only.",
)
@click.option("--once", is_flag=True, help="One pass over all clusters, and out.")
@click.option(
    "--leader-elect/--no-leader-elect", "elect", default=True, show_default=True, help="Hold a Lease while writing."
)
@click.option(
    "--lease-name",
    "lease",
    type=parameters.OBJECT_NAME,
    metavar="NAME",
    default="chronik-operator",
    show_default=True,
    help="Operators of other shards need others.",
)
@click.option(
    "--lease-namespace",
    type=parameters.NAMESPACE,
    metavar="NAME",
    help="Where the Lease is.  [default: $OPERATOR_NAMESPACE, else the pod's own, else chronik-operator-system]",
)
@click.option("--lease-duration", type=click.IntRange(1, 86_400), default=15, hidden=True)
@click.option("--renew-deadline", type=float, default=10.0, hidden=True)
@click.option("--retry-period", type=float, default=2.0, hidden=True)
@click.option("--workers", type=click.IntRange(1, 256), default=16, show_default=True, help="Clusters at a time.")
@click.option(
    "--resync", type=parameters.Seconds(1, 86_400), default=60, show_default=True, help="Seconds between looks."
)
@parameters.features_option(
    f"What to do on top: {', '.join(FEATURES)}. `chronik install --features` gives the rights.  [default: none]"
)
@click.option(
    "--backup-image",
    type=parameters.IMAGE,
    metavar="IMAGE",
    help="Image of the Jobs of backups, where spec.backup.metastore.image names none.",
)
@click.option(
    "--analysis-url",
    type=parameters.URL,
    metavar="URL",
    help="Prometheus that is asked about the metrics of canaries, such as http://prometheus.monitoring:9090.",
)
@click.option(
    "--analysis-token-file", type=parameters.FILE, metavar="FILE", help="File with the bearer token that it wants."
)
@click.option(
    "--analysis-ca-file",
    type=parameters.FILE,
    metavar="FILE",
    help="Certificates to trust it by.  [default: the system's]",
)
@click.option("--analysis-timeout", type=parameters.Seconds(0.05, 60), default=10.0, hidden=True)
@click.option("--backup-poll", type=parameters.Seconds(0.05, 600), default=5.0, hidden=True)
@click.option("--federation", is_flag=True, help="Be a hub for ChronikFederations: the same as --features federation.")
@click.option("--federation-poll", type=parameters.Seconds(0.05, 600), default=30.0, hidden=True)
@templates_option
@templates_configmap_option
@domain_option
@click.option("--health-port", type=click.IntRange(0, 65535), default=8081, show_default=True)
@click.option("--metrics-port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option(
    "--host", type=parameters.ADDRESS, metavar="ADDRESS", help="Address to serve probes and metrics on.  [default: all]"
)
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True)
@click.option("--kubeconfig", type=parameters.FILE, metavar="FILE", help="Kubeconfig file, as kubectl's.")
@click.option("--context", type=parameters.CONTEXT, metavar="NAME", help="Context of the kubeconfig.")
def reconcile(once: bool, log_format: str, **wishes: Any) -> int:
    """Run the operator: keep all ChronikClusters as their documents say.

    Runs in a pod or anywhere else with access to the cluster, until it gets SIGTERM or Ctrl-C.
    """
    from chronik.operator.telemetry import logs, tracing  # noqa: PLC0415  # help and completion stay quick

    logs.setup(os.environ, sys.stderr, log_format, colour=use_colour(sys.stderr))
    tracing.setup()
    options = _options(**wishes)
    try:
        return asyncio.run(_once(options) if once else _until_told(options))
    except (ChronikError, ReaderGone):
        raise
    except Exception:
        _log.exception(
            "ends, because chronik itself failed"
        )  # with the traceback: an operator is not run again with --debug
        raise
    finally:
        tracing.shutdown()  # the last spans are still to be sent


def _options(
    *,
    kubeconfig: str | None,
    context: str | None,
    namespaces: tuple[str, ...],
    selector: str | None,
    features: tuple[str, ...],
    federation: bool,
    backup_image: str | None,
    analysis_url: str | None,
    analysis_token_file: str | None,
    analysis_ca_file: str | None,
    analysis_timeout: float,
    lease_duration: int,
    renew_deadline: float,
    retry_period: float,
    cluster_domain: str,
    lease_namespace: str | None,
    host: str | None,
    templates_configmap: tuple[str, str] | None,
    **same: Any,
) -> Options:
    """Return the operator's options; what is not taken apart here has the same name on both sides."""
    from chronik.kube import ConnectOptions  # noqa: PLC0415
    from chronik.operator.app import Options  # noqa: PLC0415
    from chronik.operator.cache.cache import Selection  # noqa: PLC0415
    from chronik.operator.rendering.feed import TemplatesFrom  # noqa: PLC0415

    if templates_configmap and same["templates"]:
        raise click.UsageError("--templates and --templates-configmap both say where templates are: give one of them")
    wanted = frozenset((*features, *((FEDERATION_FEATURE,) if federation else ())))
    analysis = None
    if analysis_url:
        from chronik.operator.analysis.prometheus import Prometheus  # noqa: PLC0415  # most operators ask none

        analysis = Prometheus(analysis_url, analysis_token_file or "", analysis_ca_file or "", analysis_timeout)
    elif analysis_token_file or analysis_ca_file:
        raise click.UsageError("--analysis-token-file and --analysis-ca-file need --analysis-url, which they are for")
    return Options(
        analysis=analysis,
        templates_from=TemplatesFrom(*templates_configmap) if templates_configmap else None,
        connect=ConnectOptions(kubeconfig=kubeconfig or "", context=context or ""),
        selection=Selection(namespaces=namespaces, selector=selector or "", features=wanted),
        namespace=lease_namespace or os.environ.get("OPERATOR_NAMESPACE") or _own_namespace(),
        identity=os.environ.get("OPERATOR_NAME", ""),
        terms=_terms(lease_duration, renew_deadline, retry_period),
        domain=cluster_domain,
        host=host or "",
        backup_image=backup_image or "",
        **same,
    )


def _terms(duration: int, renew_deadline: float, retry: float) -> Terms:
    from chronik.operator.lease import Terms  # noqa: PLC0415

    try:
        return Terms(duration, renew_deadline, retry)
    except ValueError as error:
        raise click.UsageError(f"--lease-duration, --renew-deadline and --retry-period: {error}") from error


def _own_namespace() -> str:
    """Return the pod's namespace; outside a pod the one that `chronik install` uses, so that both find one Lease."""
    with suppress(OSError), open(_NAMESPACE_FILE, encoding="utf-8") as file:  # noqa: PTH123  # a path of the pod's
        return file.read().strip()
    return OPERATOR_NAMESPACE


async def _until_told(options: Options) -> int:
    """Run the operator until SIGTERM or Ctrl-C; a second Ctrl-C ends it at once."""
    from chronik.operator.app import Operator  # noqa: PLC0415

    operator = Operator(options)
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        operator.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    await operator.run()
    return 0


async def _once(options: Options) -> int:
    """Reconcile all clusters once, and print how each is."""
    from chronik.operator.app import run_once  # noqa: PLC0415

    outcomes = await run_once(replace(options, elect=False))
    for key, outcome in outcomes:
        why = f": {outcome.reason.reason}: {outcome.reason.message}" if outcome.reason else ""
        click.echo(visible(f"{key}: {outcome.phase or outcome.result}{why}"))
    return 5 if any(outcome.retry for _, outcome in outcomes) else 0

"""The command line: options in, one call, a report out, an exit code.

Each command is loaded when it is asked for, and imports what it alone needs when it runs: so commands that need no
cluster never load the Kubernetes client. `run` is the only place where an error becomes text and an exit code.
"""

from __future__ import annotations

import os
import re
import sys
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chronik import __version__
from chronik.cli import parameters, streams
from chronik.errors import ChronikError, InputError, InternalError, InvalidDocuments, OutputError
from chronik.report.page import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from click.shell_completion import CompletionItem

    from chronik.manifest import Manifest
    from chronik.problem import Problem

_NARROW = 80
_MOST_SHOWN = 50
_debug: ContextVar[bool] = ContextVar("debug", default=False)
"""Whether a traceback is wanted if chronik itself fails."""


_REPORTS = {
    "validate": ("json", "github"),
    **dict.fromkeys(("apply", "delete", "diff", "failover", "rollout", "switch"), ("json",)),
    **dict.fromkeys(("backup catalog", "backup create", "federation status", "replication status"), ("json",)),
    **dict.fromkeys(("status", "backup describe", "backup list"), ("json", "yaml")),
}
"""The commands whose output can be a report for programs, and its forms. Errors are part of such a report."""
_OUTPUT = re.compile(r"--output(?:=(?P<long>.*))?|-[Rnf]?o(?P<short>.*)", re.DOTALL)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code; errors are written to stderr, in a line and without a traceback."""
    streams.choose_colour("auto")
    _debug.set(os.environ.get("CHRONIK_DEBUG", "0") not in {"", "0"})
    try:
        code = _run(arguments)
        streams.flush()
    except streams.ReaderGone:
        streams.discard()
        return 141
    except OutputError as error:
        streams.discard()
        _report_error(error)
        return error.exit_code
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        return int(main.main(list(arguments), prog_name="chronik", standalone_mode=False) or 0)
    except (OutputError, streams.ReaderGone):
        raise
    except ChronikError as error:
        _report_error(error)
        _report_data(error, arguments)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        _report_data(InputError(error.format_message()), arguments)
        return error.exit_code
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except Exception as error:  # noqa: BLE001  # a traceback says nothing to people, and its exit code that diffs differ
        failure = _failure(error)
        _report_error(failure)
        _report_data(failure, arguments)
        return failure.exit_code


def _report_error(error: ChronikError) -> None:
    if isinstance(error, InvalidDocuments):
        show_problems(error.problems)
        return
    from chronik.report.problems import error_text  # noqa: PLC0415  # a clean run does not pay for it

    click.echo(error_text(error, **streams.look(sys.stderr)), err=True, nl=False, color=True)


def _report_data(error: ChronikError, arguments: Sequence[str]) -> None:
    """Write an error to stdout for a program that wants a report: it should get one, whatever goes wrong."""
    command = _wanted_command(arguments)
    output = _wanted_output(arguments)
    if output not in _REPORTS.get(command, ()):
        return
    problems = error.problems if isinstance(error, InvalidDocuments) else ()
    if command == "validate":
        print_problems(problems or [error.as_problem()], output)
        return
    from chronik.documents.writer import to_yaml_stream  # noqa: PLC0415  # only errors need it here
    from chronik.report.data import error_data, to_json  # noqa: PLC0415

    data = error_data(error, problems)
    print_data(to_json(data) if output == "json" else to_yaml_stream([data]))


def _wanted_command(arguments: Sequence[str]) -> str:
    """Return which command is meant: of a group that or one in it, whatever options stand in between."""
    at = next((at for at, each in enumerate(arguments) if each in LAZY_COMMANDS), None)
    if at is None:
        return ""
    group, *following = arguments[at:]
    return next((f"{group} {each}" for each in following if f"{group} {each}" in _REPORTS), group)


def _wanted_output(arguments: Sequence[str]) -> str:
    """Return what -o says. The arguments may be wrong in any other way, so no parser of them can tell."""
    wanted = ""
    for argument, following in zip(arguments, (*arguments[1:], ""), strict=True):
        found = _OUTPUT.fullmatch(argument)
        if found:
            wanted = found["long"] or found["short"] or following
    return wanted


def _failure(error: Exception) -> InternalError:
    """Return what nothing here foresaw as an error that asks for a report; write the traceback if --debug is on."""
    import traceback  # noqa: PLC0415  # needed only if chronik itself fails

    if _debug.get():
        lines = "".join(traceback.format_exception(error)).splitlines()
        click.echo("\n".join(map(visible, lines)), err=True)
    if isinstance(error, MemoryError):
        return InternalError("there is not enough memory")
    what = visible("; ".join(map(str.strip, traceback.format_exception_only(error))))  # notes are lines of their own
    output = "this output" if _debug.get() else "the output of the same command with --debug"
    return InternalError(f"chronik itself failed: {what}; please report it with {output}")


def show_problems(problems: Sequence[Problem]) -> None:
    """Write problems to stderr for a person to read."""
    if not problems:
        return
    from chronik.report.problems import problems_text  # noqa: PLC0415  # a clean run does not pay for it

    shown = problems_text(problems, **streams.look(sys.stderr), most=_MOST_SHOWN)
    click.echo(shown, err=True, nl=False, color=True)
    if len(problems) > _MOST_SHOWN:
        click.echo(f"and {len(problems) - _MOST_SHOWN:,} more, which -o json of `chronik validate` lists", err=True)


def print_problems(problems: Sequence[Problem], output: str) -> None:
    """Write problems to stdout for programs: as `json`, or as annotations for `github`."""
    from chronik.report.problems import problems_github, problems_json  # noqa: PLC0415  # text needs neither

    print_data((problems_json if output == "json" else problems_github)(problems))


def show_note(text: str) -> None:
    """Write to stderr what the user should know though it is no problem."""
    click.echo(f"note: {text}", err=True)


def print_data(text: str) -> None:
    """Write data to stdout: as UTF-8, which is what YAML and JSON readers expect, whatever the locale."""
    click.echo(text.encode(), nl=False)


def print_manifests(manifests: Sequence[Manifest], output: str, output_dir: str | None, writer: str) -> None:
    """Write manifests to stdout as `yaml` or `json`, or into a folder that belongs to the command `writer`."""
    from chronik.documents.writer import to_json_list, to_yaml_stream  # noqa: PLC0415  # help and completion stay quick

    if output_dir is None:
        print_data(to_yaml_stream(manifests) if output == "yaml" else to_json_list(manifests))
        return
    from chronik.offline.output import write_folder  # noqa: PLC0415

    written = write_folder(Path(output_dir), manifests, writer)
    click.echo(f"{output_dir}: {written}", err=True)
    for old, new in written.replaced:
        click.echo(f"warning: {old} is gone from {output_dir}: {new} took its place", err=True)
        click.echo("  If these are two clusters, render both in one call, or into a folder each.", err=True)
    for name in written.gone:
        show_note(f"{name} is gone from {output_dir}: no document describes it any more")
    for name in written.kept:
        show_note(f"{output_dir}/{name} stays: {writer} did not write it")


LAZY_COMMANDS = {
    "apply": ("chronik.cli.apply:apply", "Apply clusters to the API server, changing only what must change."),
    "backup": (
        "chronik.cli.backup.group:backup",
        "Back up what a cluster keeps, and look after what was backed up.",
    ),
    "delete": ("chronik.cli.delete:delete", "Delete clusters in reverse order; volumes as their retention says."),
    "diff": ("chronik.cli.diff:diff", "Show what apply would change, field by field."),
    "explain": (
        "chronik.cli.offline:explain",
        "Say what a field of the spec means, or with --of what set a field of a rendered object.",
    ),
    "failover": (
        "chronik.cli.mirrors.failover:failover",
        "Stop the mirror of a source, so that its clients can move to the copy.",
    ),
    "federation": ("chronik.cli.federation.status:federation", "Show how federations and their members are."),
    "install": ("chronik.cli.install:install", "Print the manifests of the operator itself."),
    "mirror-probe": (
        "chronik.cli.mirrors.probe:mirror_probe",
        "Measure how far a mirror is behind its source, and answer probes and metrics.",
    ),
    "render": ("chronik.cli.offline:render", "Print every Kubernetes object of the clusters."),
    "reconcile": (
        "chronik.cli.reconcile:reconcile",
        "Run the operator: keep all ChronikClusters as their documents say.",
    ),
    "replication": ("chronik.cli.mirrors.status:replication", "Show the mirrors that copy topics from other clusters."),
    "restore": ("chronik.cli.backup.group:restore", "Restore what was backed up."),
    "rollout": ("chronik.cli.rollouts.group:rollout", "Show a canary, and have it go on, wait or go back."),
    "schema": ("chronik.cli.offline:schema", "Print the CRD, the editor schema or the reference page."),
    "status": ("chronik.cli.status:status", "Show how clusters are, and what they wait for."),
    "switch": ("chronik.cli.mirrors.switch:switch", "Have an alias lead to another cluster."),
    "validate": ("chronik.cli.offline:validate", "Check documents against the schema, the rules and the templates."),
}
"""Where a command is, and the first sentence of its help."""


class LazyGroup(click.Group):
    """A group that loads a command of `LAZY_COMMANDS` when it is run, and neither for `--help` nor for completion."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, those not loaded included."""
        return sorted({*super().list_commands(ctx), *LAZY_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, from its module if it has one of its own."""
        if cmd_name not in LAZY_COMMANDS or cmd_name in self.commands:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = LAZY_COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return _with_global_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is to run; of one that is not there, say which may be meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:  # click knows those that are loaded
            names = self.list_commands(ctx)
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=names, ctx=ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands into the help text."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._short_help(ctx, name)) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin so."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        names = (name for name in self.list_commands(ctx) if name.startswith(incomplete))
        found = [CompletionItem(name, help=self._short_help(ctx, name)) for name in names]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def _short_help(self, ctx: click.Context, name: str) -> str:
        if name in LAZY_COMMANDS:
            return LAZY_COMMANDS[name][1]
        return command.get_short_help_str(limit=_NARROW) if (command := self.get_command(ctx, name)) else ""


def _choose_colour(_context: click.Context, _option: click.Parameter, value: streams.Colour | None) -> None:
    if value is not None:
        streams.choose_colour(value)


def _debugs(_context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        _debug.set(True)


_GLOBAL_OPTIONS = (
    click.Option(
        ["--color"],
        type=click.Choice(["auto", "always", "never"]),
        callback=_choose_colour,
        expose_value=False,
        is_eager=True,
        help="When to use colours.  [default: auto]",
    ),
    click.Option(
        ["--debug"],
        is_flag=True,
        callback=_debugs,
        expose_value=False,
        is_eager=True,
        help="Show a traceback if chronik itself fails.",
    ),
)
"""What can be said before a command or after it."""


def _with_global_options(command: click.Command) -> click.Command:
    """Give a command, and those below it, the options that all have; once."""
    command.params += [option for option in _GLOBAL_OPTIONS if option not in command.params]
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        each.short_help = each.short_help or " ".join((each.help or "").partition("\n\n")[0].split())  # click cuts it
        _with_global_options(each)
    return command


@click.group(
    cls=LazyGroup,
    params=list(_GLOBAL_OPTIONS),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="chronik %(version)s")
def main() -> None:
    """Run Chronik Stream on Kubernetes from one ChronikCluster document."""


files_option = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    type=parameters.Source(),
    metavar="FILE|DIR|-",
    help="ChronikCluster documents. Repeatable.",
)
_paths_argument = click.argument("paths", nargs=-1, type=parameters.Source(), metavar="[FILE|DIR|-]...")


def documents_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Have a command take documents with -f and as arguments alike; it gets them as `files`, at least one."""

    @wraps(command)
    def given(*, files: tuple[str, ...], paths: tuple[str, ...], **others: Any) -> Any:
        if not files and not paths:
            raise click.UsageError("say which documents: files or folders with -f or without, - for standard input")
        return command(files=(*files, *paths), **others)

    return _paths_argument(files_option(recursive_option(given)))


recursive_option = click.option("-R", "--recursive", is_flag=True, help="Look into folders below a folder, too.")
names_argument = click.argument("names", nargs=-1, type=parameters.CLUSTER_NAME, metavar="[NAME]...")
namespace_option = click.option(
    "-n",
    "--namespace",
    type=parameters.NAMESPACE,
    metavar="NAME",
    help="Namespace for documents that name none.  [default: default]",
)
templates_option = click.option(
    "--templates",
    type=parameters.FOLDER,
    metavar="DIR",
    help="Folder of templates that replace chronik's or add objects.",
)
templates_configmap_option = click.option(
    "--templates-configmap",
    type=parameters.NamespacedName(),
    metavar="NAMESPACE/NAME",
    help="ConfigMap of templates that the operator follows; its keys are file names.",
)
domain_option = click.option(
    "--cluster-domain",
    type=parameters.DNS_DOMAIN,
    metavar="DOMAIN",
    default="cluster.local",
    show_default=True,
    help="DNS domain of the cluster.",
)
table_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="For people, or for programs.",
)
output_option = click.option(
    "-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="How to print."
)
output_dir_option = click.option(
    "--output-dir",
    type=parameters.FOLDER,
    metavar="DIR",
    help="Write one file per object and a kustomization.yaml instead.",
)

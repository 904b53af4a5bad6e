"""Certificates for tests, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

needs_openssl = pytest.mark.skipif(
    not shutil.which("openssl"), reason="openssl makes the certificates: not found in PATH"
)


def make_pair(folder: Path, name: str, host: str) -> tuple[Path, Path]:
    """Make a self-signed certificate for a host, and return it with its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    names = f"subjectAltName={'IP' if host[0].isdigit() else 'DNS'}:{host}"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", f"/CN={name}", "-addext", names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def locked(key: Path, folder: Path) -> Path:
    """Return a copy of a key that has a password."""
    copy = folder / "locked.key"
    command = ["openssl", "pkcs8", "-topk8", "-in", str(key), "-out", str(copy), "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    return copy

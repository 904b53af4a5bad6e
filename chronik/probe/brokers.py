"""How the brokers of a cluster are reached: addresses, and files with certificates and passwords."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class Brokers(NamedTuple):
    """How a cluster is reached.

    With `tls` it is spoken to over TLS, trusted by `ca_file` or, without one, by what the machine trusts; with
    `cert_file` and `key_file` as somebody. `mechanism` is one of SASL, with a user and a password in files.
    """

    servers: tuple[str, ...]
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    tls: bool = False
    mechanism: str = ""
    user_file: str = ""
    password_file: str = ""

    def options(self) -> dict[str, Any]:
        """Return what clients of aiokafka take. Files are read each time, since Secrets change.

        Raises:
            OSError: a file cannot be read, or a certificate in it is none.
        """
        from aiokafka.helpers import create_ssl_context  # noqa: PLC0415  # an extra

        tls = self.tls or self.ca_file != ""
        options: dict[str, Any] = {"bootstrap_servers": list(self.servers)}
        if tls:
            options["ssl_context"] = create_ssl_context(
                cafile=self.ca_file or None, certfile=self.cert_file or None, keyfile=self.key_file or None
            )
        if not self.mechanism:
            return {**options, "security_protocol": "SSL" if tls else "PLAINTEXT"}
        return {
            **options,
            "security_protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT",
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": Path(self.user_file).read_text("utf-8"),
            "sasl_plain_password": Path(self.password_file).read_text("utf-8"),
        }

"""One instant query to a Prometheus: its numbers, or in words why there are none.

The address is the operator's, never a document's: a document must not have the operator call hosts of its choice.
Source: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from chronik.kube.session import diagnose, proxy_of_environment


class NoAnswer(Exception):
    """A query was not answered; the text says why."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Where a Prometheus is, and how it is asked. Files are read for each question, since what is in them changes.

    `deadline` is for a query and its answer, in seconds.
    """

    url: str
    token_file: str = ""
    ca_file: str = ""
    deadline: float = 10.0

    async def numbers(self, queries: list[str]) -> list[tuple[float, ...] | NoAnswer]:
        """Return the numbers of each query, or why there are none, in their order."""
        try:
            headers, context = await asyncio.to_thread(self._credentials)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            return [NoAnswer(f"what --analysis-url needs cannot be read: {error}")] * len(queries)
        connector = aiohttp.TCPConnector(ssl=context or True, limit=4)
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            return await asyncio.gather(*(self._asked(session, each) for each in queries))

    def _credentials(self) -> tuple[dict[str, str], ssl.SSLContext | None]:
        token = Path(self.token_file).read_text("utf-8").strip() if self.token_file else ""
        if not token.isascii() or not token.isprintable():
            raise ValueError(f"{self.token_file} holds no token")
        context = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
        return {"Authorization": f"Bearer {token}"} if token else {}, context

    async def _asked(self, session: aiohttp.ClientSession, query: str) -> tuple[float, ...] | NoAnswer:
        try:
            async with asyncio.timeout(self.deadline):
                return _numbers(*await self._sent(session, query))
        except TimeoutError:
            return NoAnswer(f"Prometheus does not answer within {self.deadline:g} s")
        except aiohttp.ClientConnectorCertificateError as error:
            return NoAnswer(f"Prometheus has a certificate that is not trusted: {error.certificate_error}")
        except (aiohttp.ClientError, OSError) as error:
            host = urlsplit(self.url).netloc.rpartition("@")[2]
            return NoAnswer(f"Prometheus at {host} cannot be asked: {diagnose(error)[1]}")
        except NoAnswer as error:
            return error

    async def _sent(self, session: aiohttp.ClientSession, query: str) -> tuple[int, bytes]:
        url = f"{self.url.rstrip('/')}/api/v1/query"
        async with session.post(
            url,
            data={"query": query},
            proxy=proxy_of_environment(url) or None,
            allow_redirects=False,  # a redirect would take the token elsewhere
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _LONGEST:
                    raise NoAnswer(
                        "Prometheus answers with more than 1 MiB: the query has to give one series, or a few"
                    )
            return response.status, bytes(body)


_LONGEST = 1 << 20
_OK, _UNAUTHORIZED, _FORBIDDEN = 200, 401, 403


def _numbers(status: int, body: bytes) -> tuple[float, ...]:
    """Return the numbers in an answer.

    Raises:
        NoAnswer: it has none.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        raise NoAnswer(
            f"Prometheus refuses the operator ({status}): --analysis-token-file has to hold its bearer token"
        )
    if isinstance(answer, dict) and answer.get("status") == "error":
        raise NoAnswer(f"Prometheus refuses the query: {answer.get('error')}")
    if status != _OK or not isinstance(answer, dict):
        raise NoAnswer(f"Prometheus answers {status}, and no JSON of its API: is --analysis-url right?")
    try:
        return tuple(_values(answer["data"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise NoAnswer(
            "Prometheus answers with no number: the query has to give an instant vector or a scalar"
        ) from error


def _values(data: dict[str, Any]) -> list[float]:
    if data["resultType"] == "scalar":
        return [float(data["result"][1])]
    if data["resultType"] != "vector":
        raise ValueError(data["resultType"])
    return [float(each["value"][1]) for each in data["result"]]

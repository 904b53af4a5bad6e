"""Asks a pod on behalf of a client, as kube-apiserver does at `pods/NAME:PORT/proxy/PATH`."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from support import api_errors as errors

if TYPE_CHECKING:
    from support.fake_server.call import Call
    from support.fake_server.store import Store

_WITHIN = 10.0


def ask_pod(store: Store, call: Call) -> tuple[int, Any]:
    """Return the code and the JSON of what the pod answers."""
    name, _, port = call.name.partition(":")
    pod = store.get(store.kinds["", "pods"], call.namespace, name)
    if pod is None:
        raise errors.not_found(errors.Named("pods", "", name))
    path = call.path.partition("/proxy")[2]
    try:
        url = f"http://{pod['status']['podIP']}:{port}{path}"
        with urllib.request.urlopen(url, timeout=_WITHIN) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        raise errors.ApiError(503, "ServiceUnavailable", f"error trying to reach service: {error}") from error

"""What becomes of a status that the server does not take at once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chronik.errors import ObjectChanged, ObjectMissing
from chronik.operator.lifecycle import write_status

DOCUMENT = {"metadata": {"namespace": "n", "name": "c", "uid": "u"}, "status": {"phase": "Creating"}}
RUNNING = {"phase": "Running"}


class Server:
    """Refuses some writes with an error, and then takes them; `live` is what a read finds."""

    def __init__(self, refusals, error=ObjectChanged, live=DOCUMENT):
        self.refusals, self.error, self.live, self.tries = refusals, error, live, 0

    async def apply(self, manifest, **_):
        """Take a write, or refuse it."""
        self.tries += 1
        if self.tries <= self.refusals:
            raise self.error("it is not so", subject="ChronikCluster/n/c")
        return manifest

    async def get(self, *_):
        """Return what is there."""
        return self.live


async def written(server):
    """Write a status, and return what the cache is told of."""
    seen = []
    context = SimpleNamespace(kube=server, cache=SimpleNamespace(observe_write=seen.append))
    assert await write_status(DOCUMENT, RUNNING, context)
    return [each["status"] for each in seen]


@pytest.mark.parametrize("refusals", [0, 1, 4])
async def test_a_status_that_is_refused_is_written_again(refusals):
    """A server that gave up because others wrote to the document is asked again: no event would tell that it did."""
    server = Server(refusals)

    assert await written(server) == [RUNNING]
    assert server.tries == refusals + 1


async def test_a_status_that_is_refused_for_ever_fails_the_pass():
    """After five refusals the pass fails, and is tried again later."""
    server = Server(99)
    with pytest.raises(ObjectChanged):
        await written(server)

    assert server.tries == 5


@pytest.mark.parametrize("live", [None, {"metadata": {"uid": "another"}}])
async def test_the_status_of_what_has_gone_is_let_be(live):
    """A document that has gone, or has a successor of its name, gets no status; an event says so."""
    server = Server(99, live=live)

    assert await written(server) == []
    assert server.tries == 1


async def test_a_document_that_is_missing_is_let_be():
    """A document that the server does not find gets no status."""
    assert await written(Server(99, ObjectMissing)) == []

"""Several things at a time, and what becomes of a failure of one."""

from __future__ import annotations

import traceback

import pytest
from support.cli_place import Place, run

from chronik.tasks import side_by_side, task_group


async def fails(text: str) -> None:
    """Fail with a text, because of a missing key."""
    try:
        {}[text]
    except KeyError as error:
        raise ValueError(text) from error


async def test_a_failure_comes_out_itself():
    """What failed is raised with its cause and the place where it failed, not a group of it."""
    with pytest.raises(ValueError, match="b") as raised:
        await side_by_side(fails, ["b"], 1)

    assert isinstance(raised.value.__cause__, KeyError)
    assert any(frame.name == "fails" for frame in traceback.extract_tb(raised.value.__traceback__))
    assert not hasattr(raised.value, "__notes__")


async def test_several_failures():
    """Of several failures at the same time the first is raised, and the others are its notes."""
    with pytest.raises(ValueError, match="a") as raised:
        await side_by_side(fails, ["a", "b"], 2)

    assert raised.value.__notes__ == ["at the same time: ValueError: b"]


async def test_a_failure_beside_the_tasks():
    """What fails in the block itself comes out as it is, and ends the tasks."""

    async def together():
        async with task_group() as tasks:
            tasks.create_task(fails("task"))
            await fails("block")

    with pytest.raises(ValueError, match="block"):
        await together()


def test_a_command_names_what_failed(fake_server, tmp_path, monkeypatch):
    """If chronik itself fails while it looks at a cluster, the error is named, and --debug shows where it was."""
    place = Place(fake_server, fake_server.new_namespace(), tmp_path)
    monkeypatch.setattr("chronik.cli.diff._cluster_diff", lambda *_: fails("odd"))
    done, debugged = place.diff(), run("--debug", "diff", "-f", place.document(), *place.flags())

    assert done.code == debugged.code == 70
    assert done.err.startswith("error: chronik itself failed: ValueError: odd; please report it")
    assert "in fails\n" in debugged.err
    assert "ExceptionGroup" not in done.err + debugged.err

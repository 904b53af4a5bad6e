"""What members had before a change by hand: what is kept of it, and what gives it back to those that got the change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chronik.federation.document import (
    BEFORE_ANNOTATION,
    FEDERATION_MANAGER,
    Address,
    Federation,
    Member,
    Rollout,
    sent_document,
)
from chronik.federation.plan import plan_federation
from chronik.federation.taking_back import Before, had, last_good, recorded, taken_back

NAMES = ("east", "west", "south")
NOW = "2026-01-01T00:00:00Z"


def federation(spec: dict[str, Any], **metadata: Any) -> Federation:
    """Return a federation that takes a failed change back."""
    members = tuple(Member(name, Address(name, "", "", "ns", "orders")) for name in NAMES)
    template = {"metadata": metadata, "spec": spec} if metadata else {"spec": spec}
    return Federation("orders", "hub", template, members, Rollout(on_failure="Revert"))


OLD = federation({"controllers": 3, "ingestNodes": 2}, labels={"team": "streaming"})
NEW = federation({"controllers": 3, "ingestNodes": 6}, labels={"team": "streaming"})


def live(what: Federation = OLD, name: str = "east", before: str = "", **others: Any) -> dict[str, Any]:
    """Return what a member has after it got what a federation sends, and what others have set there."""
    document = sent_document(what, next(each for each in what.members if each.name == name))
    fields = {
        "f:metadata": {
            field: {f"f:{key}": {} for key in texts}
            for field, texts in ((f"f:{field}", document["metadata"].get(field, {})) for field in _TEXTS)
            if texts
        },
        "f:spec": {f"f:{key}": {} for key in document["spec"]},
    }
    metadata = dict(document["metadata"])
    if before:
        metadata["annotations"] = {**metadata["annotations"], BEFORE_ANNOTATION: before}
        fields["f:metadata"]["f:annotations"][f"f:{BEFORE_ANNOTATION}"] = {}
    metadata["labels"] = {**metadata.get("labels", {}), "by": "others"}
    metadata["managedFields"] = [{"manager": FEDERATION_MANAGER, "operation": "Apply", "fieldsV1": fields}]
    return {**document, "metadata": metadata, "spec": {**document["spec"], **others}}


_TEXTS = ("labels", "annotations")


def test_what_a_member_had_is_what_the_federation_gave_it():
    """It is what was sent, without the hub's own marks, and without what others have set."""
    before = had(live(searchNodes=2), "hub/orders")

    assert before == Before({"labels": {"team": "streaming"}}, {"controllers": 3, "ingestNodes": 2})
    assert Before.of_text(before.text) == before


@pytest.mark.parametrize(
    "found",
    [
        None,
        {**live(), "metadata": {**live()["metadata"], "annotations": {"chronik.stream/federation": "other/orders"}}},
        {**live(), "metadata": {**live()["metadata"], "managedFields": []}},
        {**live(), "spec": {"controllers": "x" * 200_000}},
    ],
    ids=["absent", "another's", "not applied", "too much"],
)
def test_what_is_no_federations_is_not_kept(found):
    """Of what is not there, is another's, was not applied by one, or is too much for an annotation, nothing is kept."""
    assert had(found, "hub/orders") is None


def test_an_unfinished_change_is_not_what_is_gone_back_to():
    """A member that has a change which not all were through with goes back to what it had before that."""
    before = Before({}, {"controllers": 1})
    found = live(NEW, before=before.text)

    assert recorded(found) == before
    assert last_good(found, "hub/orders", unfinished=True) == before
    assert last_good(found, "hub/orders", unfinished=False) == had(live(NEW), "hub/orders")
    assert last_good(live(), "hub/orders", unfinished=True) == had(live(), "hub/orders")


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '{"metadata": 1, "spec": 2}', '{"metadata": {}, "spec": {}}']
)
def test_a_record_that_is_none_is_passed_over(text):
    """What people have made of the annotation gives nothing to go back to."""
    assert recorded(live(before=text or " ")) is None


def test_those_that_got_the_change_get_what_they_had():
    """Each is sent the very document that it had; the others are sent nothing, and nobody waits for them."""
    good = {name: found for name in ("east", "west") if (found := had(live(name=name), "hub/orders"))}
    found = taken_back(NEW, {"east", "west"}, good)

    assert isinstance(found, Federation)
    back = {each.name: sent_document(found, each) for each in found.members if not each.paused}
    assert back == {each.name: sent_document(OLD, each) for each in OLD.members[:2]}
    assert found.rollout.on_failure == "Halt", "it is taken back once"
    plan = plan_federation(found, {}, {}, NOW)
    assert [each.progress.name for each in plan.members if each.held] == ["south"]


def test_nothing_is_taken_back_unless_all_of_it_is_known():
    """A member of which nothing was kept, or labels that differed, leave all members as they are: it is said why."""
    east = Before({"labels": {"a": "1"}}, {"controllers": 1})

    assert "what west had before" in str(taken_back(NEW, {"east", "west"}, {"east": east}))
    other = replace(east, metadata={})
    assert "different labels" in str(taken_back(NEW, {"east", "west"}, {"east": east, "west": other}))

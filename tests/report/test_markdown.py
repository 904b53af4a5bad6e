"""A diff as Markdown: one table, folded sections, nothing that a manifest could break out of, and never too long."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.cli_place import run

from chronik.manifest import ClusterKey, ObjectRef
from chronik.plan.actions import Apply, Create, GrowClaim, Skip
from chronik.plan.changes import Change
from chronik.plan.results import Report, Result
from chronik.report.diff import ClusterDiff
from chronik.report.markdown import MARKER, MOST_CHARACTERS, as_markdown
from chronik.report.summary import ClusterResult

ROOT = Path(__file__).parents[2]
INGEST = ObjectRef("StatefulSet", "demo", "events-ingest")
HOSTILE = (
    "```\n</details><script>alert(1)</script>",
    "`````\n# a heading\n@everyone ![x](https://example.com/pixel.png)",
    "</code></summary></details>\n\n| a | b |\n|---|---|",
    "~~~\r\n<!-- \x1b[31m\u202e",
)


def changed(ref: ObjectRef = INGEST, *changes: Change, restarts: bool = False) -> Result:
    """Return the result of an apply with these changes."""
    apply = Apply(
        ref=ref,
        reason="",
        manifest={},
        changes=changes,
        restarts=changes if restarts else (),
        uid="u",
        resource_version="1",
    )
    return Result(apply, "changed")


def diff(*results: Result, name: str = "events", pods: int = 3) -> ClusterDiff:
    """Return the diff of one cluster, whose workloads have so many pods."""
    counts = {result.ref: pods for result in results}
    return ClusterDiff(ClusterResult(ClusterKey("demo", name), Report(results)), counts)


def outside_of_code(markdown: str) -> str:
    """Return what a reader of Markdown sees as more than code: fences as CommonMark has them and HTML code are out."""
    kept, fence = [], ""
    for line in markdown.split("\n"):
        if fence:
            fence = "" if re.fullmatch(rf" {{0,3}}{fence}`*\s*", line) else fence
        elif found := re.match(r" {0,3}(`{3,})[^`]*$", line):
            fence = found[1]
        else:
            kept.append(line)
    assert not fence, "a fence is open at the end"
    return re.sub(r"<code>[^<]*</code>", "<code/>", "\n".join(kept))


def test_what_a_comment_says():
    """The table counts objects, volumes and pods that restart; each object is folded below a line that names it."""
    image = Change("spec.template.spec.containers[0].image", "a:1", "a:2")
    claim = ObjectRef("PersistentVolumeClaim", "demo", "data-events-ingest-0")
    grown = Result(
        GrowClaim(ref=claim, reason="grows", storage="20Gi", was="10Gi", uid="u", resource_version="1"), "grown"
    )
    markdown = as_markdown([diff(changed(INGEST, image, restarts=True), grown)])

    assert markdown.startswith(f"{MARKER}\n### ")
    assert "| <code>demo/events</code> | - | 1 | - | - | 1 | 3 | - |\n" in markdown
    assert "<summary><code>&#126; StatefulSet/demo/events-ingest</code>: 3 pods restart</summary>" in markdown
    assert "spec.template.spec.containers[0].image: a:1 -> a:2\n" in markdown
    assert "<summary>1 volume grows</summary>" in markdown


def test_the_documentation_shows_a_real_comment(tmp_path):
    """The comment in docs/reviews.md is the one for the change of the example that it names."""
    old = (ROOT / "examples" / "standard.yaml").read_text("utf-8")
    new = tmp_path / "standard.yaml"
    new.write_text(old.replace("size: 20Gi", "size: 200Gi").replace("ingest:1.4.2", "ingest:1.4.3"))
    done = run("diff", "--from", str(ROOT / "examples" / "standard.yaml"), "-f", str(new), "-o", "markdown")

    assert (done.code, done.err) == (1, "")
    assert f"\n~~~markdown\n{done.out}~~~\n" in (ROOT / "docs" / "reviews.md").read_text("utf-8")


def test_nothing_changes():
    """Where nothing changes there is no table and nothing to unfold."""
    unchanged = Result(Skip(ref=INGEST, reason=""), "unchanged")

    assert as_markdown([diff(unchanged)]).endswith("\n\nNothing: 1 cluster without a change.\n")


def test_new_objects_share_a_section():
    """Objects of which there is no more to say than that they are created are listed together."""
    refs = [ObjectRef("ConfigMap", "demo", f"c{number}") for number in range(3)]
    markdown = as_markdown([diff(*(Result(Create(ref=ref, reason="", manifest={}), "created") for ref in refs))])

    assert markdown.count("<details>") == 1
    assert "<summary>3 objects to create</summary>" in markdown


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_breaks_out(text):
    """Whatever stands in a manifest stays code: no fence ends, no tag opens, nobody is mentioned, no image loads."""
    harmless = as_markdown([diff(changed(INGEST, Change("p", "a", "b")))])
    ref = ObjectRef("ConfigMap", "demo", text)
    markdown = as_markdown([diff(changed(ref, Change(f"data[{text}]", None, text), Change("p", text, "b")))])

    assert outside_of_code(markdown) == outside_of_code(harmless)
    assert "\x1b" not in markdown


def test_the_same_change_makes_the_same_text():
    """The text depends on nothing but the change, so a comment that is written again is not edited."""
    change = changed(INGEST, Change("p", "a", {"x": 1, "y": [1, 2]}))

    assert as_markdown([diff(change)]) == as_markdown([diff(change)])


def test_a_comment_is_never_too_long():
    """What does not fit is left out object by object and counted, and no fence and no section is left open."""
    many = [changed(INGEST._replace(name=f"o{number}"), Change("data", "x" * 1500, "y" * 1500)) for number in range(90)]
    markdown = as_markdown([diff(*many)])
    shown = markdown.count("<details>")

    assert MOST_CHARACTERS - 5_000 < len(markdown) <= MOST_CHARACTERS
    assert markdown.count("</details>") == shown
    assert f"\n{90 - shown} objects left out: a comment holds 65,536 characters." in markdown
    outside_of_code(markdown)


def test_many_clusters_fit_too():
    """Of a thousand clusters the table has the first two hundred, and a number for the others."""
    fleet = [diff(changed(INGEST, Change("p", "a", "b")), name=f"c{number:060}") for number in range(1000)]
    markdown = as_markdown(fleet)

    assert len(markdown) <= MOST_CHARACTERS
    assert "\n800 more clusters that change.\n" in markdown

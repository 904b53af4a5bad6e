"""What one run leaves for the next is private, and never necessary."""

from __future__ import annotations

import errno

import pytest
from jinja2 import DictLoader, Environment

from chronik.api.rules import RuleBook
from chronik.offline import assets
from chronik.offline.caches import KeptRules, bytecode_cache

DOCUMENT = {"metadata": {"name": "a.b"}, "spec": {"controllers": 2}}


def test_bytecode_cache(tmp_path, monkeypatch):
    """Compiled templates are kept in the user's cache folder, which nobody else can write."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert bytecode_cache() is not None

    [made] = (tmp_path / "chronik").iterdir()
    assert made.stat().st_mode & 0o077 == 0


def test_bytecode_cache_that_others_can_write(tmp_path, monkeypatch):
    """A cache folder that others can write is not used: it could hold their code."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bytecode_cache()
    [made] = (tmp_path / "chronik").iterdir()
    made.chmod(0o777)

    assert bytecode_cache() is None


def test_no_place_for_a_bytecode_cache(tmp_path, monkeypatch):
    """Where no cache folder can be made, there is none, and no error."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    assert bytecode_cache() is None


def test_kept_rules_give_the_same_verdicts(tmp_path, monkeypatch):
    """Rules read back from the cache find what rules compiled anew find."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = assets.rules_text()
    first, fresh = KeptRules(text), RuleBook(text)
    expected = RuleBook(text, first).check(DOCUMENT)
    first.save()
    second = KeptRules(text)

    assert second == first != {}
    assert RuleBook(text, second).check(DOCUMENT) == expected == fresh.check(DOCUMENT) != []


def test_kept_rules_belong_to_one_rule_book(tmp_path, monkeypatch):
    """Another text of the rules does not see what was kept for this one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = KeptRules("old")
    kept["rule"] = b"compiled"
    kept.save()

    assert KeptRules("old") == {"rule": b"compiled"}
    assert KeptRules("new") == {}


@pytest.mark.parametrize("content", ["", "[]", "{", '{"rule": 1}'])
def test_a_spoilt_cache_is_no_error(tmp_path, monkeypatch, content):
    """What is not ours is read as nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = KeptRules("text")
    kept["rule"] = b"compiled"
    kept.save()
    [file] = (tmp_path / "chronik" / "rules").iterdir()
    file.write_text(content)

    assert KeptRules("text") == {}


@pytest.mark.parametrize("broken", ["tempfile.NamedTemporaryFile", "builtins.open"])
def test_cache_that_fails_is_no_error(broken, tmp_path, monkeypatch):
    """A disk that is full, or a file that may not be read, keeps no template from being rendered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = bytecode_cache()
    environment = Environment(loader=DictLoader({"a": "{{ 1 }}"}), bytecode_cache=cache)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(broken, fail)
        assert environment.get_template("a").render() == "1"

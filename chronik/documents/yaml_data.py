"""YAML as plain data, read as forgivingly as kubectl reads its own files: kubeconfigs, and what plugins print.

`reader` is for manifests: it is strict and knows the place of every value. Here the first document counts, the last of
two equal keys wins, and unknown tags are ignored; what a scalar means is the same in both.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from chronik.documents.scalars import resolve

_MERGE = "tag:yaml.org,2002:merge"
_PLAIN = "!plain"


class UnreadableError(ValueError):
    """A text is neither YAML nor JSON, or has something that JSON cannot hold; the message is one line."""


def read_data(content: bytes) -> Any:
    """Return the first document of a text in YAML or JSON, as JSON data; None if there is none.

    Raises:
        UnreadableError: it cannot be read.
    """
    try:
        loader = _Loader(content)
        try:
            node = loader.get_node() if loader.check_node() else None
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UnreadableError(_in_one_line(error)) from error
    except RecursionError:
        raise UnreadableError("it is nested too deeply") from None
    except ValueError as error:  # a number that JSON does not have
        raise UnreadableError(str(error)) from error


def _in_one_line(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    return where + " ".join(str(problem).split())


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml may be missing
    """PyYAML's loader, with everything that it would make of tags and scalars taken out."""

    yaml_implicit_resolvers = {"<": [(_MERGE, re.compile("<<"))], None: [(_PLAIN, re.compile(""))]}  # noqa: RUF012  # PyYAML reads it off the class
    yaml_constructors = {None: lambda loader, node: loader.data_of(node)}  # noqa: RUF012  # PyYAML reads it off the class

    def data_of(self, node: Any) -> Any:
        """Return the data that a node stands for."""
        if isinstance(node, yaml.ScalarNode):
            plain = node.tag == _PLAIN
            return resolve(node.value, None if plain else node.tag, plain=plain)
        if isinstance(node, yaml.SequenceNode):
            return [self.construct_object(item, deep=True) for item in node.value]
        self.flatten_mapping(node)
        return {self._key_of(key): self.construct_object(item, deep=True) for key, item in node.value}

    def _key_of(self, node: Any) -> str:
        """Return a key as Go writes it: `1` and `true` are texts, null and collections are no keys."""
        key = self.construct_object(node, deep=True)
        if isinstance(key, str):
            return key
        if isinstance(key, int):
            return json.dumps(key)
        raise yaml.constructor.ConstructorError(None, None, "found a key that is no text", node.start_mark)

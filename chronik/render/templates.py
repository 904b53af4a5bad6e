"""Templates whose values are bound, not spliced, as SQL drivers bind parameters.

What `{{ … }}` prints is an opaque token, a *placeholder*. The text that a template makes, its *skeleton*, is therefore
the template author's alone; it is parsed as YAML, and only then are the typed values put into the parsed tree. No value
can add a key, end a scalar, become a number or start a document. Parts compose as data: `{{ part("probes") }}` renders
another template to a value and binds that. A part sees its user's variables, but for a loop's, which it is handed:
`part("metric", metric=metric)`.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import (
    BaseLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
    Undefined,
    nodes,
    pass_context,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing, object_type_repr

from chronik.documents.scalars import SURROGATE
from chronik.errors import TemplateError
from chronik.render.filters import FILTERS, FUNCTIONS
from chronik.render.mistakes import UnknownName, plain_syntax, plain_words
from chronik.render.skeleton import OMIT, PLACEHOLDER_MARK, SkeletonError, compile_skeleton, placeholder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from jinja2 import Template
    from jinja2.bccache import BytecodeCache
    from jinja2.runtime import Context

    from chronik.render.origins import Trace

_PLACEHOLDERS = "chronik placeholders"  # no identifier, so no template can name it
_DEPTH = "chronik depth"
_CHECKED = "chronik checked"  # by identity: what parts have made so far
_NOTHING = object()
_MAX_DEPTH = 8
_PART_NAME = re.compile(r"[a-z0-9-]+")
_LINE_MARK = re.compile(r"\0(\d+)\0")
_FORBIDDEN: dict[type[nodes.Node], str] = {
    # Each of these can turn printed text back into a value, and so would hand a template its own placeholders.
    nodes.Macro: "{% macro %}",
    nodes.CallBlock: "{% call %}",
    nodes.FilterBlock: "{% filter %}",
    nodes.AssignBlock: "{% set %} … {% endset %}",
    nodes.Import: "{% import %}",
    nodes.FromImport: "{% from %}",
    nodes.ScopedEvalContextModifier: "{% autoescape %}",
    nodes.Block: "{% block %}",
    # These splice text and not data; part() composes templates.
    nodes.Include: "{% include %}",
    nodes.Extends: "{% extends %}",
}
_BUILT_IN_FILTERS = (
    "default",
    "first",
    "int",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "select",
    "selectattr",
    "sort",
    "string",
    "trim",
    "unique",
    "upper",
)


class Templates:
    """A set of templates by name, compiled once and rendered to JSON data.

    `read` maps a name such as `statefulset.yaml.j2` to a text, or to None where there is no such template.
    `bytecode_cache` spares a short-lived process the compiling. `names` lists all templates, for suggestions only.
    `trace` gets to know what each template made.
    """

    def __init__(
        self,
        read: Callable[[str], str | None],
        bytecode_cache: BytecodeCache | None = None,
        names: Callable[[], Iterable[str]] = tuple,
        trace: Trace | None = None,
    ) -> None:
        self._names = names
        self._trace = trace
        self._environment = _Environment(
            loader=_Loader(read),
            undefined=_Missing,
            finalize=_bind,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
            cache_size=-1,
            bytecode_cache=bytecode_cache,
        )
        self._environment.globals = {"part": self._part, **FUNCTIONS}
        self._environment.filters = {
            **{name: self._environment.filters[name] for name in _BUILT_IN_FILTERS},
            **FILTERS,
        }

    def render(self, name: str, variables: Mapping[str, Any]) -> Any:
        """Render one template to data; a template that prints nothing makes None.

        Raises:
            TemplateError: the template is missing or broken, names something that does not exist, or binds a value
                where it does not fit; it carries the template's name and line.
        """
        placeholders: list[Any] = []
        text = self._text(name, {_CHECKED: {}, **variables, _PLACEHOLDERS: placeholders})
        try:
            value = compile_skeleton(text)(placeholders)
        except SkeletonError as error:
            line = self._template_line(name, variables, error.line)
            raise TemplateError(error.message, template=name, line=line, hint=error.hint) from error
        if self._trace is not None:
            self._remember(self._trace, name, variables, (text, placeholders, value))
        return value

    def _remember(
        self, trace: Trace, name: str, variables: Mapping[str, Any], made: tuple[str, list[Any], Any]
    ) -> None:
        from chronik.render.origins import Made  # noqa: PLC0415  # only `explain` asks where values come from

        trace.add(Made(name, *made, partial(self._template_line, name, variables)))

    def check(self, name: str) -> None:
        """Raise TemplateError for a template that is missing, or whose own syntax is wrong."""
        try:
            self._environment.get_template(name)
        except (TemplateNotFound, TemplateSyntaxError) as error:
            _raise_template_error(name, error, {"variable": [], "filter": [*self._environment.filters]})

    def _text(self, name: str, variables: dict[str, Any]) -> str:
        try:
            return _run(self._environment.get_template(name), variables)
        except TemplateError:
            raise
        except Exception as error:  # noqa: BLE001  # an expression can raise anything; the author is told where
            names = {"variable": [*variables, *self._environment.globals], "filter": [*self._environment.filters]}
            _raise_template_error(name, error, names)

    @pass_context
    def _part(self, context: Context, name: str, /, **variables: Any) -> Any:
        depth = context.get(_DEPTH, 0) + 1
        if depth > _MAX_DEPTH:
            raise RecursionError(f"parts are nested more than {_MAX_DEPTH} deep; does {name} use itself?")
        file = f"parts/{name}.yaml.j2"
        if not _PART_NAME.fullmatch(name) or not self._environment.knows(file):
            parts = [each.removeprefix("parts/").removesuffix(".yaml.j2") for each in self._names() if "parts/" in each]
            raise UnknownName(f"there is no part {name}: it would be the file {file}", name, parts)
        made = self.render(file, {**context.get_all(), **variables, _DEPTH: depth})
        context[_CHECKED][id(made)] = made
        return made

    def _template_line(self, name: str, variables: Mapping[str, Any], skeleton_line: int) -> int | None:
        """Find the template's line behind a line of its skeleton: render once more, with every line marked."""
        text = _run(self._environment.marked(name), {_CHECKED: {}, **variables, _PLACEHOLDERS: []})
        lines = text.split("\n")[:skeleton_line]
        here = _LINE_MARK.search(lines.pop()) if len(lines) == skeleton_line else None
        before = _LINE_MARK.findall("".join(lines))
        return int(here[1]) if here else int(before[-1]) if before else None


def _run(template: Template, variables: dict[str, Any]) -> str:
    return "".join(template.root_render_func(template.new_context(variables)))


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox that also refuses the statements which capture or splice printed text."""

    def _generate(self, source: nodes.Template, name: str | None, *args: Any, **kwargs: Any) -> str:
        for node in source.find_all(tuple(_FORBIDDEN)):
            raise TemplateSyntaxError(f"{_FORBIDDEN[type(node)]} is not allowed in templates", node.lineno, name)
        for loop in source.find_all(nodes.For):
            if loop.recursive:  # loop() would return what the loop printed
                raise TemplateSyntaxError("a recursive {% for %} is not allowed in templates", loop.lineno, name)
        for choice in source.find_all(nodes.CondExpr):
            if choice.expr2 is None:  # Jinja would print nothing, StrictUndefined or not
                raise TemplateSyntaxError("an if inside an expression needs its else", choice.lineno, name)
        return super()._generate(source, name, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a map's value before a method of Python's: `values.items` may be a key of the user's."""
        if type(obj) is dict and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def knows(self, name: str) -> bool:
        """Return whether there is a template of that name."""
        try:
            self.get_template(name)
        except TemplateNotFound:
            return False
        return True

    def marked(self, name: str) -> Template:
        """Compile a template so that all it prints is followed by a mark with its line."""
        assert self.loader is not None
        tree = self.parse(self.loader.get_source(self, name)[0], name)
        for output in list(tree.find_all(nodes.Output)):
            output.nodes = [part for node in output.nodes for part in _marked(node)]
        return self.from_string(tree)


def _marked(node: nodes.Expr) -> Iterator[nodes.Expr]:
    if not isinstance(node, nodes.TemplateData):
        yield node
        yield nodes.TemplateData(_line_mark(node.lineno))
        return
    *lines, last = node.data.split("\n")
    text = "".join(f"{line}{_line_mark(number)}\n" for number, line in enumerate(lines, start=node.lineno))
    yield nodes.TemplateData(f"{text}{last}{_line_mark(node.lineno + len(lines))}" if last else text)


def _line_mark(number: int) -> str:
    return f"\0{number}\0"


class _Missing(StrictUndefined):
    """What a wrong name yields: an error on any use, which says what the name could have been."""

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:  # the sandbox says why
            return self._undefined_hint
        name, holder = self._undefined_name, self._undefined_obj
        known = _names_in(holder)
        if known is None:
            return f"{name} is not defined" if holder is missing else f"{object_type_repr(holder)} has no {name}"
        from difflib import get_close_matches  # noqa: PLC0415  # only a wrong name pays for it

        close = get_close_matches(str(name), known, n=1)
        others = f"there are {', '.join(sorted(known))}" if known else "the map is empty"
        return f"there is no {name} here: {f'did you mean {close[0]}?' if close else others}"


def _names_in(holder: Any) -> list[str] | None:
    """Return what stands behind the dot of a map or of an object of ours; None if it is something else."""
    if isinstance(holder, dict):
        return [*map(str, holder)]
    fields = getattr(holder, "__dataclass_fields__", None)
    if fields is None:
        return None
    return [*fields, *(name for name, value in vars(type(holder)).items() if isinstance(value, property))]


class _Loader(BaseLoader):
    """Jinja's view of the function that reads templates."""

    def __init__(self, read: Callable[[str], str | None]) -> None:
        self.read = read

    def get_source(self, environment: Any, template: str) -> tuple[str, str, Callable[[], bool]]:
        del environment
        text = self.read(template)
        if text is None:
            raise TemplateNotFound(template)
        if PLACEHOLDER_MARK in text:
            line = text.count("\n", 0, text.index(PLACEHOLDER_MARK)) + 1
            raise TemplateSyntaxError(f"the text {PLACEHOLDER_MARK} is reserved", line, template)
        return text, template, lambda: True


@pass_context
def _bind(context: Context, value: Any) -> str:
    """Keep a value for later and print its placeholder instead; Jinja calls this on whatever `{{ … }}` yields."""
    # What None and OMIT mean depends on where they stand; what a part has made was checked as it was made.
    if value is not None and value is not OMIT and context[_CHECKED].get(id(value), _NOTHING) is not value:
        _require_data(value)
    placeholders: list[Any] = context[_PLACEHOLDERS]
    placeholders.append(value)
    return placeholder(len(placeholders) - 1)


def _require_data(value: Any) -> None:
    """Refuse what is no JSON data through and through: Jinja's objects, tuples, NaN, text that UTF-8 cannot hold."""
    kind = type(value)
    if kind is str:
        if not value.isascii() and re.search(SURROGATE, value):
            raise ValueError(f"the text {value[:60]!r} holds half of a surrogate pair, which UTF-8 cannot write")
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"the key {key!r} of a map is not a string")
            _require_data(key)
            _require_data(item)
    elif kind is list:
        for item in value:
            _require_data(item)
    elif not (kind is bool or kind is int or (kind is float and isfinite(value))):
        _refuse(value)


def _refuse(value: Any) -> NoReturn:
    if isinstance(value, Undefined):
        str(value)  # _Missing raises, with the name that is missing
    if value is None or value is OMIT:
        raise ValueError("a null inside a map or list: leave such values out, with given()")
    hint = "; end the filters with `| list`" if isinstance(value, Generator) else ""
    raise TypeError(f"{value if isinstance(value, float) else object_type_repr(value)} is no value of JSON{hint}")


def _raise_template_error(name: str, error: Exception, names: Mapping[str, list[str]]) -> NoReturn:
    """Raise a TemplateError for whatever went wrong; `names` are the variables and filters that there are."""
    if isinstance(error, TemplateNotFound):
        raise TemplateError(f"there is no template {error.name}", template=name) from error
    if isinstance(error, TemplateSyntaxError):
        message, hint, word = plain_syntax(str(error.message), names["filter"])
        where = error.name or name
        raise TemplateError(message, template=where, line=error.lineno, hint=hint, word=word) from error
    where, line = _failing_line(error.__traceback__) or (name, None)
    message, hint, word = plain_words(error, names["variable"])
    raise TemplateError(message, template=where, line=line, hint=hint, word=word) from error


def _failing_line(traceback: TracebackType | None) -> tuple[str, int] | None:
    """Find the innermost line of template code in a traceback; compiled templates know their source lines."""
    found = None
    while traceback is not None:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            found = template.name, template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return found

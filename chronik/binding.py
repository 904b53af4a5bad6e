"""Templates whose values are bound, not spliced, as SQL drivers bind parameters.

What `{{ … }}` prints is an opaque token, a *hole*. The text that a template makes, its *skeleton*, is therefore the
template author's alone; it is parsed as YAML, and only then are the typed values put into the parsed tree. No value can
add a key, end a scalar, become a number or start a document. Parts compose as data: `{{ part("probes") }}` renders
another template to a value and binds that. `render` is the only caller.
"""

from __future__ import annotations

from difflib import get_close_matches
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

from chronik.errors import TemplateError
from chronik.filters import FILTERS, FUNCTIONS
from chronik.skeleton import HOLE_MARK, SkeletonError, compile_skeleton, hole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from jinja2.bccache import BytecodeCache
    from jinja2.runtime import Context

_HOLES = "chronik holes"  # no identifier, so no template can name it
_DEPTH = "chronik depth"
_MAX_DEPTH = 8
_FORBIDDEN: dict[type[nodes.Node], str] = {
    # Each of these turns printed text back into a value, and so would hand a template its own holes.
    nodes.Macro: "{% macro %}",
    nodes.CallBlock: "{% call %}",
    nodes.FilterBlock: "{% filter %}",
    nodes.AssignBlock: "{% set %} … {% endset %}",
    nodes.Import: "{% import %}",
    nodes.FromImport: "{% from %}",
    nodes.ScopedEvalContextModifier: "{% autoescape %}",
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
    `bytecode_cache` spares a short-lived process the compiling.
    """

    def __init__(self, read: Callable[[str], str | None], bytecode_cache: BytecodeCache | None = None) -> None:
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
        holes: list[Any] = []
        text = self._text(name, {**variables, _HOLES: holes})
        try:
            return compile_skeleton(text)(holes)
        except SkeletonError as error:
            line = self._template_line(name, variables, error.line)
            raise TemplateError(error.message, template=name, line=line) from error

    def _text(self, name: str, variables: dict[str, Any]) -> str:
        try:
            template = self._environment.get_template(name)
            return "".join(template.root_render_func(template.new_context(variables)))
        except TemplateError:
            raise
        except Exception as error:  # noqa: BLE001  # an expression can raise anything; the author is told where
            _raise_template_error(name, error)

    @pass_context
    def _part(self, context: Context, name: str, /, **variables: Any) -> Any:
        depth = context.get(_DEPTH, 0) + 1
        if depth > _MAX_DEPTH:
            raise RecursionError(f"parts are nested more than {_MAX_DEPTH} deep; does {name} use itself?")
        return self.render(f"parts/{name}.yaml.j2", {**context.get_all(), **variables, _DEPTH: depth})

    def _template_line(self, name: str, variables: Mapping[str, Any], skeleton_line: int) -> int | None:
        """Find the template's line behind a line of its skeleton: render once more with every line numbered."""
        marked = _Environment.number_lines(self._environment.source(name))
        try:
            template = self._environment.from_string(marked)
            text = "".join(template.root_render_func(template.new_context({**variables, _HOLES: []})))
        except Exception:  # noqa: BLE001  # numbering broke the template, so the line stays unknown
            return None
        lines = text.split("\n")
        numbers = lines[skeleton_line - 1].rpartition(HOLE_MARK) if skeleton_line <= len(lines) else ("", "", "")
        return int(numbers[2]) if numbers[1] else None


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox that also refuses the statements which capture printed text."""

    def _generate(self, source: nodes.Template, name: str | None, *args: Any, **kwargs: Any) -> str:
        for node in source.find_all(tuple(_FORBIDDEN)):
            raise TemplateSyntaxError(f"{_FORBIDDEN[type(node)]} is not allowed in templates", node.lineno, name)
        return super()._generate(source, name, *args, **kwargs)

    def source(self, name: str) -> str:
        """Return a template's text."""
        assert self.loader is not None
        return self.loader.get_source(self, name)[0]

    @staticmethod
    def number_lines(source: str) -> str:
        """End every line that makes output with the mark and its number, as a part of its last scalar."""
        lines = source.split("\n")
        return "\n".join(
            line if line.rstrip().endswith(("%}", "#}")) else f"{line}{HOLE_MARK}{number}"
            for number, line in enumerate(lines, start=1)
        )


class _Missing(StrictUndefined):
    """What a wrong name yields: an error on any use, which says what the name could have been."""

    @property
    def _undefined_message(self) -> str:
        name, holder = self._undefined_name, self._undefined_obj
        if not isinstance(holder, dict):
            return f"{name} is not defined"
        close = get_close_matches(str(name), map(str, holder), n=1)
        known = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(map(str, holder)))}"
        return f"there is no {name} here: {known}"


class _Loader(BaseLoader):
    """Jinja's view of the function that reads templates."""

    def __init__(self, read: Callable[[str], str | None]) -> None:
        self.read = read

    def get_source(self, environment: Any, template: str) -> tuple[str, str, Callable[[], bool]]:
        del environment
        text = self.read(template)
        if text is None:
            raise TemplateNotFound(template)
        if HOLE_MARK in text:
            raise TemplateSyntaxError(f"the text {HOLE_MARK} is reserved", 1, template)
        return text, template, lambda: True


@pass_context
def _bind(context: Context, value: Any) -> str:
    """Keep a value for later and print its hole instead; Jinja calls this on whatever `{{ … }}` yields."""
    if isinstance(value, Undefined):
        str(value)  # StrictUndefined raises here, with the name that is missing
    holes: list[Any] = context[_HOLES]
    holes.append(value)
    return hole(len(holes) - 1)


def _raise_template_error(name: str, error: Exception) -> NoReturn:
    if isinstance(error, TemplateNotFound):
        raise TemplateError(f"there is no template {error.name}", template=name) from error
    if isinstance(error, TemplateSyntaxError):
        raise TemplateError(str(error.message), template=error.name or name, line=error.lineno) from error
    where, line = _failing_line(error.__traceback__) or (name, None)
    raise TemplateError(str(error) or type(error).__name__, template=where, line=line) from error


def _failing_line(traceback: TracebackType | None) -> tuple[str, int] | None:
    """Find the innermost line of template code in a traceback; compiled templates know their source lines."""
    found = None
    while traceback is not None:
        template = traceback.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            found = template.name, template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return found

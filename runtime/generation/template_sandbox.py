"""A Jinja environment for templates of strangers: what transformers offers them, and an end to what they may use up.

Jinja's sandbox keeps a template from reaching Python. It does not keep one from running for hours or from filling the
memory, so loops and macros look at the clock here, and texts that grow are measured. What a single filter does on a
long text is not bounded.
"""

import json
import re
import time
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

SECONDS = 10.0  # that one rendering may take
CHARACTERS = 64_000_000  # that any text in it, the result too, may have
_WIDTH = 10_000  # the largest number that a filter or a method takes: most are widths
_WIDE = re.compile(r"\d{5,}|\*|{[^}]*{")  # in the text before a % or .format: a large width, or one from elsewhere


class TooMuch(jinja2.TemplateError):
    """A template that takes too long or makes too long a text."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, which marks what is the model's own for training: its content, as it is."""

    tags = {"generation"}  # noqa: RUF012 as Jinja declares it

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        content = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(content).set_lineno(line)


class _Watches(NodeTransformer):
    """Puts a look at the clock into every loop and macro, and a measure on every `~`."""

    def _watched(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        look = nodes.Call(nodes.Name("_clock", "load"), [], [], None, None)
        node.body.insert(0, nodes.Output([look]).set_lineno(node.lineno))
        result: nodes.Node = node
        return result

    def _measured(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(node, "_measured", [], [], None, None, lineno=node.lineno)

    visit_For = visit_Macro = visit_CallBlock = _watched  # noqa: N815 Jinja finds them by these names
    visit_Concat = _measured  # noqa: N815


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and _product_length(left, right) > CHARACTERS:
            raise TooMuch("it multiplies a text or list too often")
        if operator == "**" and (abs(left) > 10**6 or abs(right) > 100):
            raise TooMuch("it raises a number to too high a power")
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        return _measured(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped:
            _check_format(value.__self__)
        return wrapped

    def call(__self, __context: Any, __obj: Any, *args: Any, **keywords: Any) -> Any:  # noqa: N805
        # Jinja's own names: a template may name its arguments `self` and `context`.
        if isinstance(getattr(__obj, "__self__", None), str):
            _check_widths(args)
        return _measured(super().call(__context, __obj, *args, **keywords))


def _product_length(left: Any, right: Any) -> int:
    lengths = [
        (len(one), other) for one, other in ((left, right), (right, left)) if isinstance(one, (str, list, tuple))
    ]
    return max((length * times for length, times in lengths if isinstance(times, int)), default=0)


def _check_widths(values: Any) -> None:
    if any(isinstance(value, int) and abs(value) > _WIDTH for value in values):
        raise TooMuch("it asks for too wide a text")


def _check_format(pattern: str) -> None:
    if _WIDE.search(pattern):
        raise TooMuch("it asks for too wide a text")


def _measured(value: Any) -> Any:
    if isinstance(value, (str, list)) and len(value) > CHARACTERS:
        raise TooMuch(f"it makes a text of more than {CHARACTERS:,} characters")
    return value


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(value: Any, *args: Any, **keywords: Any) -> Any:
        _check_widths((*args, *keywords.values()))
        return _measured(function(value, *args, **keywords))

    return call


class _Namespace(jinja2.utils.Namespace):
    """Jinja's, but for names that begin with an underscore: the way to Python's own attributes."""

    def __init__(*args: Any, **keywords: Any) -> None:  # so that a template may name one of its names `self`
        attributes = dict(*args[1:], **keywords)
        for name in attributes:
            _check_name(name)
        jinja2.utils.Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise jinja2.TemplateError(f"a namespace can't hold {name!r}")


def _raise_exception(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _new_dict(*args: Any, **keywords: Any) -> dict[Any, Any]:
    """Stand for the class, whose own attributes a template need not reach."""
    return dict(*args, **keywords)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Unlike Jinja's own, leave `<` and the like as they are."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> _Environment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    for name in ("center", "indent", "round", "batch", "slice"):
        environment.filters[name] = _bounded(environment.filters[name])
    environment.filters |= {"tojson": _to_json, "_measured": _measured}
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": _new_dict,
        "namespace": _Namespace,
    }
    return environment


class SandboxedTemplate:
    """A compiled template."""

    def __init__(self, source: str) -> None:
        """Compile; a jinja2.TemplateError or RecursionError where the source is none."""
        environment = _environment()
        tree = _Watches().visit(environment.parse(source))
        self._template = jinja2.Template.from_code(environment, environment.compile(tree), environment.globals)

    def render(self, variables: dict[str, Any]) -> str:
        """Return the text; raises what the template raises, TooMuch where it does not come to an end."""
        end = time.monotonic() + SECONDS

        def clock() -> str:
            if time.monotonic() > end:
                raise TooMuch(f"it takes longer than {SECONDS:g} seconds")
            return ""

        pieces: list[str] = []
        length = 0
        for piece in self._template.generate({**variables, "_clock": clock}):
            length += len(piece)
            if length > CHARACTERS:
                raise TooMuch(f"it makes a text of more than {CHARACTERS:,} characters")
            pieces.append(piece)
        return "".join(pieces)

"""From a composed config to typed objects: the one place where values from outside are checked.

Every error is a `ValueError` of one line that names the key, the rule, the value and the remedy.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ConfigDict, Tag, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

from train.config.hints import did_you_mean

# Standard dataclasses and typed dictionaries below the root inherit these.
_RULES = ConfigDict(extra="forbid", arbitrary_types_allowed=True, coerce_numbers_to_str=True)
_UNKNOWN_KEY = {"unexpected_keyword_argument", "extra_forbidden"}
T = TypeVar("T")
_REQUIRED = {"missing", "missing_argument", "missing_keyword_only_argument"}


def parse(schema: type[T], config: DictConfig | Mapping[str, Any], key: str = "") -> T:
    """The config as an instance of `schema`, a frozen dataclass; `key` is where it stands."""
    return check(schema, plain(config), key)


def plain(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """The config as dicts, lists and scalars, with every interpolation resolved."""
    if not isinstance(config, DictConfig):
        return dict(config)
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ValueError(_required(error.full_key or "a key")) from error
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{error.full_key or 'the config'}: {reason}") from error
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


def check(schema: type[T], value: Any, key: str = "") -> T:
    """`value` as pydantic reads it for `schema`, any annotation; unknown keys are errors."""
    # Made at run time, which a static type checker cannot follow.
    make_typed_dict: Any = TypedDict
    root = make_typed_dict("root", {"value": schema})
    root.__pydantic_config__ = _RULES
    try:
        return TypeAdapter(root).validate_python({"value": value})["value"]
    except ValidationError as error:
        problems = error.errors(include_url=False)
        line = _describe(schema, value, problems[0], key)
        if len(problems) > 1:
            line += f" ({len(problems) - 1} more after this one)"
        raise ValueError(line) from error


def join_key(*parts: str | int) -> str:
    """A key as a user would write it in an override: `data.paths.0`."""
    return ".".join(str(part) for part in parts if part != "")


def _describe(schema: Any, value: Any, problem: ErrorDetails, key: str) -> str:
    path = _path_in_data(value, problem["loc"][1:], problem["type"])
    full_key = join_key(key, *path) or "the config"
    if problem["type"] in _UNKNOWN_KEY:
        known = known_keys(schema, path[:-1], frozenset(problem["loc"]))
        hint = did_you_mean(str(path[-1]), known)
        return f"{full_key}: no such key; {hint}known here: {', '.join(known) or 'none'}"
    if problem["type"] in _REQUIRED:
        return _required(full_key)
    rule = problem["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if problem["type"] == "value_error":
        # Written by the schema's own check, which names its key, the value and the remedy.
        return rule if rule.startswith(full_key) else f"{full_key}: {rule}"
    given = repr(problem["input"])
    given = given if len(given) <= 80 else given[:77] + "..."
    return f"{full_key}: {rule}; got {given}. Set it with {full_key}=VALUE"


def _required(full_key: str) -> str:
    return f"{full_key}: required, and not given; set it with {full_key}=VALUE"


def _path_in_data(value: Any, loc: Sequence[int | str], problem_type: str) -> list[int | str]:
    """`loc` without the names of union members, which pydantic puts between the keys."""
    path: list[int | str] = []
    for index, part in enumerate(loc):
        is_last = index == len(loc) - 1
        if isinstance(value, Mapping):
            if part not in value and not (is_last and problem_type in _REQUIRED):
                continue
            value = value.get(part)
        elif isinstance(value, Sequence) and not isinstance(value, str) and isinstance(part, int):
            value = value[part]
        else:
            continue
        path.append(part)
    return path


def known_keys(
    schema: Any, path: Sequence[int | str] = (), tags: frozenset[int | str] = frozenset()
) -> list[str]:
    """The keys that `schema` has at `path`; empty where it has none of its own.

    Of a union whose members are tagged, those with one of the `tags` alone.
    """
    for part in path:
        options = _options(schema, tags)
        found = (_below(option, part) for option in options)
        schema = next((below for below in found if below is not None), None)
    return sorted({name for option in _options(schema, tags) for name in _hints(option)})


def _options(annotation: Any, tags: frozenset[int | str]) -> list[Any]:
    """The annotation with `Annotated` taken off and unions opened."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _options(get_args(annotation)[0], tags)
    if origin in (Union, types.UnionType):
        members = get_args(annotation)
        tagged = [member for member in members if _tag(member) in tags]
        return [option for member in tagged or members for option in _options(member, tags)]
    return [annotation]


def _tag(annotation: Any) -> str | None:
    """What pydantic tells this member of a union by."""
    notes = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((note.tag for note in notes if isinstance(note, Tag)), None)


def _below(annotation: Any, part: int | str) -> Any:
    hints = _hints(annotation)
    if part in hints:
        return hints[str(part)]
    # The value type of a list, a tuple or a dict.
    arguments = [item for item in get_args(annotation) if item is not Ellipsis]
    return arguments[-1] if arguments else None


def _hints(annotation: Any) -> dict[str, Any]:
    if not isinstance(annotation, type):
        return {}
    if is_dataclass(annotation):
        hints = get_type_hints(annotation, include_extras=True)
        return {field.name: hints[field.name] for field in fields(annotation) if field.init}
    if hasattr(annotation, "__required_keys__"):
        return get_type_hints(annotation, include_extras=True)
    return {}

"""Builds a component (env, reward, scorer, data source, agent) from a config node.

A node names its class by import path, so a user's own class plugs in from config alone:

    reward:
      _target_: my_package.rewards.LengthPenalty
      max_words: 300
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, Required, cast, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter
from pydantic_core import SchemaError
from typing_extensions import TypedDict

# Loaded before the working directory joins the import path, so that a folder or file of the same
# name in it cannot take their place.
import envs  # noqa: F401
import rewards  # noqa: F401
import train  # noqa: F401
from train.config.hints import did_you_mean
from train.config.validate import check, join_key

TARGET = "_target_"


def build(node: Mapping[str, Any], key: str = "", /, **context: Any) -> Any:
    """An instance of the class that `node` names, its fields checked against the constructor.

    `key` is where the node stands in the config, for messages. `context` holds what the program
    has at hand (a tokenizer, a device); the class is given those of them that it asks for by name.
    A field that is itself such a node, or a mapping of names to nodes, is built first.
    """
    if not isinstance(node, Mapping) or not isinstance(node.get(TARGET), str):
        raise ValueError(
            f"{key or 'the node'}: should be a component; "
            f"give it {TARGET}: package.module.ClassName"
        )
    component = locate(node[TARGET], join_key(key, TARGET))
    parameters, takes_any = _parameters(component)
    wanted = {name: value for name, value in context.items() if takes_any or name in parameters}

    given = {name: value for name, value in node.items() if name != TARGET}
    for name in sorted(given.keys() & wanted.keys()):
        raise ValueError(f"{join_key(key, name)}: given by the program; take it out of the config")

    built = {
        name: _built(value, join_key(key, name), context)
        for name, value in given.items()
        if _holds_components(value) and (name in parameters or takes_any)
    }
    # What the program gives and what was just built needs no check against the config's rules.
    settable = {
        name: parameter
        for name, parameter in parameters.items()
        if name not in wanted and name not in built
    }
    settings = {name: value for name, value in given.items() if name not in built}
    extra = {n: settings.pop(n) for n in list(settings) if takes_any and n not in parameters}
    checked = cast(Mapping[str, Any], check(_schema(component, settable), settings, key))
    try:
        return component(**checked, **extra, **built, **wanted)
    except ValueError as error:
        # The class's own check; without the key its reader would not know where to look.
        message = str(error)
        raise ValueError(message if not key or key in message else f"{key}: {message}") from error


def is_component(value: Any) -> bool:
    return isinstance(value, Mapping) and TARGET in value


def _holds_components(value: Any) -> bool:
    """Whether this is a component, or a mapping of nothing but components."""
    if is_component(value):
        return True
    return isinstance(value, Mapping) and bool(value) and all(map(is_component, value.values()))


def _built(value: Mapping[str, Any], key: str, context: Mapping[str, Any]) -> Any:
    if is_component(value):
        return build(value, key, **context)
    return {name: build(node, join_key(key, name), **context) for name, node in value.items()}


def locate(path: str, key: str = TARGET) -> Callable[..., Any]:
    """The class or function at an import path, also from the working directory."""
    _allow_working_directory()
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"{key}: should read package.module.ClassName; got {path!r}")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(missing + "."):
            raise ValueError(
                f"{key}: there is no module '{missing}' (in {path!r}); correct the path, or run "
                "from the folder that holds the module, or put that folder on PYTHONPATH"
            ) from error
        raise ValueError(
            f"{key}: '{module_name}' needs the module '{missing}', which is not installed"
        ) from error
    except Exception as error:
        raise ValueError(
            f"{key}: importing '{module_name}' failed: {type(error).__name__}: {error}"
        ) from error
    component = getattr(module, name, None)
    if component is None:
        public = [known for known in vars(module) if not known.startswith("_")]
        raise ValueError(
            f"{key}: module '{module_name}' has no '{name}'; {did_you_mean(name, public)}"
            f"it was read from {module.__file__}"
        )
    if not callable(component):
        raise ValueError(f"{key}: '{path}' is not a class or a function, so it builds nothing")
    return component


def _allow_working_directory() -> None:
    """A console script does not look for modules where the user stands; a user's class may."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        # Last, so that nothing in it can shadow an installed module.
        sys.path.append(folder)


def _parameters(component: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], bool]:
    """The keyword parameters of a constructor or function, and whether it takes any other."""
    parameters = inspect.signature(component).parameters.values()
    by_name = {
        parameter.name: parameter
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    return by_name, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _schema(component: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> Any:
    """The parameters as a typed dictionary; the defaults stay with the class."""
    owner = component.__init__ if isinstance(component, type) else component
    try:
        hints = get_type_hints(owner, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # Annotations that exist for a type checker alone: the class has to check for itself.
        hints = {}
    fields = {}
    for name, parameter in parameters.items():
        annotation = _checkable(hints.get(name, Any))
        is_required = parameter.default is parameter.empty
        fields[name] = Required[annotation] if is_required else NotRequired[annotation]
    # Made at run time, which a static type checker cannot follow.
    make_typed_dict: Any = TypedDict
    return make_typed_dict(component.__name__, fields)


def _checkable(annotation: Any) -> Any:
    """The annotation, or `Any` where no value can be checked against it (most protocols)."""
    try:
        TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        # A dataclass or typed dictionary, which brings rules of its own.
        return annotation
    except SchemaError:
        return Any
    return annotation

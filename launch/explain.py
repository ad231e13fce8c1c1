"""Which errors are the user's to mend, and how each is said in one line.

`ValueError` and `OSError` are for users, with a message that names the file or key and the remedy,
and so is whatever Hydra and OmegaConf raise over a config. Everything else is a defect of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hydra.errors import (
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException

from train.config.hints import did_you_mean
from train.files import file_error
from train.monitors.stop import StoppedByMonitor


class UnknownSetting(ValueError):
    """An override of a key or group that the config does not have, or no longer lets choose."""

    def __init__(self, key: str, known: Iterable[str]) -> None:
        known = list(known)
        if key in known:
            super().__init__(
                f"{key}: was chosen when the run began; change its settings one by one, "
                f"{key}.SETTING=VALUE"
            )
            return
        hint = did_you_mean(key, known)
        super().__init__(f"{key}: no such setting; {hint}`--cfg job` shows all of them")


def is_user_error(error: BaseException) -> bool:
    users = ValueError | OSError | HydraException | OmegaConfBaseException | StoppedByMonitor
    return isinstance(error, users)


def explain(error: Exception) -> str:
    """The error as one line that names the key or file."""
    if isinstance(error, OverrideParseException):
        reason = _one_line(error.message.split("See https://")[0])
        return (
            f"{error.override}: not understood ({reason}); write key=value, a list as key=[a,b], "
            "and quote a value that holds spaces, commas or brackets"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_such_option(error.missing_cfg_file, error.options or ())
    if is_there_already(error):
        return f"{unknown_key(error)}: is there already; leave out the +"
    if isinstance(error, OmegaConfBaseException):
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return f"{error.full_key}: {reason}" if error.full_key else reason
    if isinstance(error, OSError) and (line := file_error(error)):
        return line
    if isinstance(error.__cause__, OmegaConfBaseException) and isinstance(error, HydraException):
        return f"{_one_line(str(error))} ({explain(error.__cause__)})"
    return _one_line(str(error)) or type(error).__name__


def unknown_key(error: BaseException) -> str | None:
    """The key of an override that found nothing to override, or what it was to add, if the error
    says so."""
    if not isinstance(error, HydraException):
        return None
    found = re.match(r"Could not (?:override|delete|append)[^']*'([^']+)'", str(error))
    return found.group(1).partition("@")[0] if found else None


def is_there_already(error: BaseException) -> bool:
    """Whether an override that is to add a key, with a `+`, found it there."""
    return isinstance(error, HydraException) and str(error).startswith("Could not append")


def _no_such_option(missing: str, options: Iterable[str]) -> str:
    group, _, option = missing.removesuffix(".yaml").rpartition("/")
    if not group:
        return f"{option}: there is no config of this name; name one with --config-name"
    known = sorted(options)
    hint = did_you_mean(option, known)
    choices = f"choose one of {', '.join(known)}" if known else "this group has no options"
    return f"{group}={option}: no such option; {hint}{choices}"


def _one_line(text: str) -> str:
    return " ".join(text.split())

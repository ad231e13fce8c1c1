"""The trials of a sweep: what was asked of each, and what became of it.

`trials.jsonl` in the sweep's folder has what was asked; the rest stands in the trials' own folders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from train.files import append_line, write_json
from train.run_folder import RunFolder

FILE = "trials.jsonl"
END = Path("job", "end.json")
"""In a run that was launched as a job: how the job ended, for whoever reads the run."""

State = Literal["done", "failed", "unfinished"]


@dataclass(frozen=True)
class Trial:
    """One run of a sweep. `error` is set for a failed one, `settings` are what was varied."""

    number: int
    path: Path
    state: State
    settings: Mapping[str, str]
    error: str | None = None


def note(sweep: Path, number: int, **told: Any) -> None:
    """Adds a line about a trial; processes may do so at once."""
    sweep.mkdir(parents=True, exist_ok=True)
    append_line(sweep / FILE, json.dumps({"trial": number, **told}, ensure_ascii=False))


def write_end(run: Path, status: int, message: str) -> None:
    """Notes how a job ended that will not be started again."""
    write_json(run / END, {"status": status, "message": message})


def read_trials(sweep: Path) -> list[Trial]:
    """
    Raises:
        FileNotFoundError: the folder is not one of a sweep.
    """
    path = sweep / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"sweep: {sweep} holds no sweep ({FILE} is missing); give the folder that --multirun "
            "made, multirun/<sweep>"
        )
    asked: dict[int, list[str]] = {}
    errors: dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            told = json.loads(line)
        except ValueError:
            continue
        number = told["trial"]
        if "overrides" in told:
            # Asked once more: what went wrong before no longer counts.
            asked[number] = told["overrides"]
            errors.pop(number, None)
        else:
            errors[number] = told["error"]
    return [_trial(sweep, n, asked[n], errors.get(n)) for n in sorted(asked)]


def _trial(sweep: Path, number: int, overrides: Sequence[str], error: str | None) -> Trial:
    folder = RunFolder(sweep / str(number))
    settings = dict(_named(text) for text in overrides)
    error = error or _error_of_job(folder.path)
    if error is not None:
        return Trial(number, folder.path, "failed", settings, error)
    state: State = "done" if folder.evaluation_path.is_file() else "unfinished"
    return Trial(number, folder.path, state, settings)


def _error_of_job(run: Path) -> str | None:
    try:
        end = json.loads((run / END).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return end["message"] if end["status"] != 0 else None


def _named(override: str) -> tuple[str, str]:
    name, _, value = override.partition("=")
    return name.lstrip("+~"), value

"""Two real processes fit and judge an ensemble together: as one process does, and written once."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from train.commands import train

SCRIPT = Path(__file__).with_name("ensemble_ranks.py")
QUICK = ("route_knn", "fusion_product")
SLOW = ("cascade_agreement", "merge_linear")
# Per cent of improvement; another batch rounds otherwise.
TOLERANCE = 1e-3

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def ensemble_ranks() -> ModuleType:
    """The script that the processes ran: which settings it takes."""
    spec = importlib.util.spec_from_file_location("ensemble_ranks", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(QUICK, id="quick"),
        pytest.param(SLOW, id="others", marks=pytest.mark.slow),
    ],
)
def played(
    request: pytest.FixtureRequest,
    run_ranks: Callable[..., list[dict[str, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[tuple[str, ...], Path]:
    """The envs, and the folder in which two processes have run them."""
    folder = tmp_path_factory.mktemp("ensembles")
    run_ranks(SCRIPT, folder, *request.param)
    return request.param, folder


def found_in(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation.json").read_text(encoding="utf-8"))


def test_two_processes_find_what_one_finds(
    played: tuple[tuple[str, ...], Path], ensemble_ranks: ModuleType
) -> None:
    envs, folder = played
    for env in envs:
        train.run(ensemble_ranks.settings(folder, env, f"{env}_of_one"))
        together, alone = (found_in(folder / f"{env}_of_{n}") for n in ("two", "one"))
        for ours, theirs in zip(together["rows"], alone["rows"], strict=True):
            assert ours["name"] == theirs["name"]
            mean = theirs["improvement"]["mean"]
            assert ours["improvement"]["mean"] == pytest.approx(mean, abs=TOLERANCE), ours["name"]
            assert ours.get("play") == theirs.get("play")

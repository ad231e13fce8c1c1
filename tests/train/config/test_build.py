"""Components are built from config by import path, ours and the user's alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from train.config.build import build

COMPONENTS = """
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol
from pydantic import Field

if TYPE_CHECKING:
    from nowhere import Unknown

class Shaping(Protocol):
    def __call__(self, improvement: float) -> float: ...

@dataclass(frozen=True)
class Clipped:
    ceiling: Annotated[float, Field(gt=0)] = 2.0

class Reward:
    def __init__(self, shaping: Shaping, tokenizer, penalty: float = 0.0) -> None:
        if penalty > 1:
            raise ValueError("penalty is at most 1")
        self.shaping, self.tokenizer, self.penalty = shaping, tokenizer, penalty

class Loose:
    def __init__(self, **settings):
        self.settings = settings

class Unchecked:
    def __init__(self, value: Unknown, other: int = 0):
        self.value, self.other = value, other
"""


@pytest.fixture(autouse=True)
def components(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_components.py").write_text(COMPONENTS)
    (tmp_path / "broken_components.py").write_text("import a_library_not_here\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_components", raising=False)


def node(name: str, **settings: Any) -> dict[str, Any]:
    return {"_target_": f"my_components.{name}", **settings}


def test_a_class_in_the_working_directory_is_built_from_its_import_path() -> None:
    assert build(node("Clipped", ceiling=3)).ceiling == 3.0


def test_the_class_is_given_the_context_that_it_asks_for_and_no_more() -> None:
    reward = build(
        node("Reward", shaping=node("Clipped"), penalty=0.5), tokenizer="the tokenizer", device=0
    )
    assert (reward.tokenizer, reward.penalty, reward.shaping.ceiling) == ("the tokenizer", 0.5, 2.0)


def test_a_class_that_takes_any_setting_gets_them_all() -> None:
    assert build(node("Loose", a=1), b=2).settings == {"a": 1, "b": 2}


def test_annotations_that_cannot_be_read_leave_the_check_to_the_class() -> None:
    assert build(node("Unchecked", value=object)).value is object


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (node("Clipped", ceilin=3), "reward.ceilin: no such key; did you mean 'ceiling'?"),
        (node("Clipped", ceiling=0), "reward.ceiling: should be greater than 0; got 0."),
        (node("Clipped", ceiling="high"), "reward.ceiling: should be a valid number"),
        (node("Reward", penalty=1), "reward.shaping: required, and not given"),
        (
            node("Reward", shaping=node("Clipped", ceiling=0)),
            "reward.shaping.ceiling: should be greater than 0",
        ),
        (node("Reward", shaping=node("Clipped"), penalty=2), "reward: penalty is at most 1"),
        (node("Reward", shaping=1, tokenizer=2), "reward.tokenizer: given by the program"),
        (node("Cliped"), "reward._target_: module 'my_components' has no 'Cliped'; did you mean"),
        ({"_target_": "no_such.Thing"}, "reward._target_: there is no module 'no_such'"),
        (
            {"_target_": "broken_components.Thing"},
            "reward._target_: 'broken_components' needs the module 'a_library_not_here'",
        ),
        ({"_target_": "Thing"}, "reward._target_: should read package.module.ClassName"),
        ({"ceiling": 3}, "reward: should be a component; give it _target_"),
    ],
)
def test_a_wrong_component_is_one_line_that_names_its_key(
    config: dict[str, Any], line: str
) -> None:
    with pytest.raises(ValueError) as caught:
        build(config, "reward", tokenizer=None)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_module_of_the_user_cannot_take_the_place_of_ours(repository: Path) -> None:
    Path("rewards.py").write_text("raise SystemExit('shadowed')")
    script = (
        "from train.config.build import build, locate\n"
        "assert build({'_target_': 'my_components.Clipped'}).ceiling == 2.0\n"
        "import rewards\n"
        "print(list(rewards.__path__)[0])"
    )
    # As a console script runs: the working directory is not on the import path.
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (str(repository / "rewards"), "")

"""`nextchapter bench scoring`: tables for people, JSON for machines, one line for a bad option."""

from __future__ import annotations

import json
import platform
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import torch

from launch.cli import main

CONTENDERS = [
    "one_at_a_time",
    "padded_batch",
    "chunked",
    "ours_cold",
    "ours_warm",
    "floor",
    "floor_warm",
]


@dataclass(frozen=True)
class QuickRun:
    folder: Path
    shown: str
    text: str


@pytest.fixture(
    scope="module",
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
        ),
    ],
)
def quick_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> QuickRun:
    folder = tmp_path_factory.mktemp("bench")
    path = folder / "scoring.json"
    options = ["--quick", "--repeats", "2", "--shapes", "g8", "--device", request.param]
    with redirect_stdout(StringIO()) as shown:
        assert main(["bench", "scoring", *options, "--output", str(path)]) == 0
    return QuickRun(folder, shown.getvalue(), path.read_text())


def test_a_quick_run_writes_what_every_contender_took(quick_run: QuickRun) -> None:
    written = json.loads(quick_run.text)
    assert [result["contender"] for result in written["results"]] == CONTENDERS
    for result in written["results"]:
        assert result["shape"] == "g8"
        assert len(result["seconds"]) == 2
        assert result["model_flops"] > 0
    assert written["ratios"]["g8"]["ours_cold/floor"]["median"] > 0
    assert written["largest_difference_nats_per_token"] < 1e-3


def test_a_quick_run_shows_every_contender(quick_run: QuickRun) -> None:
    assert all(name in quick_run.shown for name in CONTENDERS)


def test_results_describe_the_machine_and_name_neither_it_nor_its_folders(
    quick_run: QuickRun,
) -> None:
    machine = json.loads(quick_run.text)["machine"]
    assert machine["torch"] == torch.__version__
    assert machine["threads"] == torch.get_num_threads()
    assert f'"{platform.node()}"' not in quick_run.text
    assert str(quick_run.folder) not in quick_run.text
    assert str(Path.home()) not in quick_run.text


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "BENCHMARK"),
        (["speed"], "speed"),
        (["scoring", "--repeats", "0"], "--repeats"),
        (["scoring", "--quick", "--shapes", "g17"], "did you mean 'g16'?"),
        (["scoring", "--device", "tpu"], "--device"),
        (["scoring", "--output", "no/such/folder/scoring.json"], "--output"),
        (["scoring", "--fast"], "--fast"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_status_2(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *argv]) == 2
    line = capsys.readouterr().err
    assert says in line
    assert line.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "scoring", "--quick", "--device", "cuda"]) == 2
    assert "--device: torch sees no CUDA device" in capsys.readouterr().err

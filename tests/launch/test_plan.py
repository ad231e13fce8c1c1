"""`nextchapter launch plan` as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.cli import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


def test_a_run_that_fits_is_shown_term_by_term_and_leaves_no_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["launch", "plan", "experiment=paper_7b_8gpu"]) == 0
    shown = capsys.readouterr().out
    for term in ("generator, whole", "policy: gradients", "keys and values", "head, in tiles"):
        assert term in shown
    assert "4 B × 7.62G weights / 8 GPUs" in shown
    assert "known sizes of Qwen/Qwen2.5-7B-Instruct-1M" in shown
    assert not list(tmp_path.iterdir())


def test_a_run_that_cannot_fit_is_refused_in_one_line_with_status_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["launch", "plan", "experiment=paper_7b_8gpu", "gpus_per_node=8", "gpu_memory_gb=72"]
    assert main(argv) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("nextchapter launch plan: hardware: the phase '")
    assert line.endswith("it fits with evaluation.batch_size=1")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["plam"], "no kind of launch 'plam'; did you mean 'plan'?"),
        (["plan", "nodess=2"], "nodess: no such setting"),
        (["plan", "nodes=0"], "hardware.nodes: should be greater than 0; got 0"),
        (
            ["plan", "experiment=paper_7b_8gpu", "trainer.per_device_batch_size=3"],
            "trainer.per_device_batch_size: episodes_per_step x num_generations = 512",
        ),
        (
            ["plan", "trainer=ppo", "nodes=3"],
            "trainer.episodes_per_rollout: 16 episodes do not divide over 3 processes",
        ),
        (["plan", "generator.model.path=/nowhere"], "generator.model.path: no config of"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    assert main(["launch", *argv]) == 2
    assert says in capsys.readouterr().err

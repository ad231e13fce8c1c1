"""`launch train --multirun hydra/sweeper=optuna`, as a user runs it, with trials that take no time.

What stands in for the interpreter of jobs leaves the results of a run; all else is real.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.cli import main
from train.trials import read_trials

pytest.importorskip("optuna", reason="needs Optuna: pip install 'nextchapter[optuna]'")

# A trial's improvement is its seed; the one that finds `fail` fails, and while there is `hold` it
# waits.
INTERPRETER = """\
#!/bin/sh
seed=$(sed -n 's/^seed: //p' "$4/config.yaml")
case "$3" in
launch.jobs.node)
    echo "$seed" >> starts
    while [ -e hold ]; do sleep 0.05; done
    [ -e fail ] && exit
    row='{"name": "trained", "decoding": "sampled", "improvement": {"mean": '$seed'}}'
    echo '{"rows": ['"$row"']}' > "$4/evaluation.json" ;;
launch.jobs.verdict)
    [ -e fail ] || exit 0
    rm fail
    echo '{"status": 2, "message": "rank 0: too hot"}' > "$4/job/end.json"
    exit 2 ;;
esac
"""
SWEEP = (
    *("launch", "train", "--multirun", "hydra/sweeper=optuna", "launch.device=cpu"),
    *("hydra.sweeper.n_startup_trials=2", "hydra.sweeper.poll_s=0.05"),
    "seed=int(interval(0,100000))",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user stands; sweeps and trials are made in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(INTERPRETER)
    interpreter.chmod(0o755)
    return tmp_path


def sweep(name: str, *settings: str) -> int:
    where = f"hydra.sweep.dir={name}"
    return main([*SWEEP, where, f"launch.python={Path.cwd() / 'interpreter'}", *settings])


def seeds(name: str) -> list[str]:
    return [trial.settings["seed"] for trial in read_trials(Path(name))]


def starts() -> list[str]:
    return Path("starts").read_text().split()


def test_trials_are_chosen_by_results_and_the_report_knows_the_best(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep("some", "hydra.sweeper.n_trials=4") == 0
    assert len(set(starts())) == 4 and seeds("some") == starts()
    best = max(seeds("some"), key=int)
    number = seeds("some").index(best)
    shown = capsys.readouterr().out
    assert f"best: some/{number}: improvement (%) {int(best):+.4g}" in shown
    assert "4 of 4 trials have a result, 0 failed; see nextchapter report sweep=some" in shown
    # More of them go on where these ended, and repeat none.
    assert sweep("some", "hydra.sweeper.n_trials=6") == 0
    assert seeds("some") == starts() and len(set(starts())) == 6

    assert main(["report", "sweep=some", "run_dir=report"]) == 0
    found = json.loads(Path("report", "sweep.json").read_text())
    assert found["best"]["improvement"] == max(map(int, starts()))
    assert list(found["importance"]) == ["seed"]
    assert Path("report", "figures", "parallel_coordinates.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_that_was_killed_goes_on_as_the_undisturbed_one_and_runs_nothing_twice() -> None:
    assert sweep("whole", "hydra.sweeper.n_trials=4") == 0
    whole = starts()
    Path("starts").unlink()
    Path("hold").touch()
    command = [sys.executable, "-P", "-m", "launch", *SWEEP, "hydra.sweep.dir=killed"]
    command += [f"launch.python={Path.cwd() / 'interpreter'}", "hydra.sweeper.n_trials=4"]
    process = subprocess.Popen([*command, "launch.detach=true"], env=dict(os.environ))
    give_up = time.monotonic() + 300
    while not Path("starts").exists():
        assert time.monotonic() < give_up and process.poll() is None
        time.sleep(0.05)
    # Its first trial runs on by itself, and has no result when the same command is given again.
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    second = subprocess.Popen([*command, "launch.detach=true"], env=dict(os.environ))
    time.sleep(1.0)
    Path("hold").unlink()
    assert second.wait(timeout=300) == 0
    assert starts() == whole == seeds("killed")


def test_a_trial_that_failed_is_reported_and_tried_again_only_when_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("fail").touch()
    assert sweep("some", "hydra.sweeper.n_trials=3") == 0
    shown = capsys.readouterr().out
    assert "some/0: rank 0: too hot" in shown
    assert "2 of 3 trials have a result, 1 failed" in shown
    first = starts()
    assert sweep("some", "hydra.sweeper.n_trials=3") == 0
    assert starts() == first
    assert sweep("some", "hydra.sweeper.n_trials=3", "launch.retry_failed=true") == 0
    assert starts() == [*first, first[0]]
    assert "3 of 3 trials have a result, 0 failed" in capsys.readouterr().out


def test_settings_that_are_refused_are_failures_of_their_trials(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep("some", "trainer.max_steps=choice(0,-1)", "hydra.sweeper.n_trials=2") == 2
    told = capsys.readouterr()
    assert "0 of 2 trials have a result, 2 failed" in told.out
    assert told.err.count("trainer.max_steps: should be greater than 0") == 2
    assert not Path("starts").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials: should be greater than 0"),
        (["hydra.sweeper.sampler=cmaes"], "hydra.sweeper.sampler"),
        (["trainer=glob(*)"], "trainer: an optimiser wants to be told the choices"),
        (["--dry-run"], "--dry-run: shows one job"),
    ],
)
def test_what_no_sweep_can_be_made_of_is_one_line(
    capsys: pytest.CaptureFixture[str], settings: list[str], says: str
) -> None:
    assert sweep("some", *settings) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line


def test_a_folder_of_another_sweep_and_a_metric_that_nobody_logs_are_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep("some", "hydra.sweeper.n_trials=1") == 0
    assert sweep("some", "trainer.max_steps=7") == 2
    assert "hydra.sweep.dir: some was begun with other settings" in capsys.readouterr().err
    Path("some", "0", "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
    assert sweep("some", "hydra.sweeper.n_trials=1", "hydra.sweeper.metric=reward") == 0
    assert "best: some/0: reward +0.5" in capsys.readouterr().out
    assert sweep("some", "hydra.sweeper.n_trials=1", "hydra.sweeper.metric=rewrad") == 2
    assert "has no 'rewrad'; there is improvement, reward, step" in capsys.readouterr().err


def test_the_optimiser_makes_jobs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--multirun", "hydra/sweeper=optuna", "seed=1,2"]) == 2
    assert "write nextchapter launch train --multirun" in capsys.readouterr().err

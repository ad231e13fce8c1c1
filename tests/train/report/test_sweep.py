"""The report of a sweep: seven results and a failure, and what each setting explains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import main
from train.objective import Objective
from train.report.sweep import importance, read_results, varied_settings
from train.trials import note, read_trials, write_end

# By learning rate and seed; the improvement of each trial.
RESULTS = {("1e-3", "1"): 4.0, ("1e-3", "2"): 6.0, ("1e-4", "1"): 0.0, ("1e-4", "2"): 2.0}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Four trials with results, one that its job ended, one that was refused, one not begun."""
    folder = tmp_path / "sweep"
    for number, ((rate, seed), improvement) in enumerate(RESULTS.items()):
        note(folder, number, overrides=[f"trainer.learning_rate={rate}", f"seed={seed}", "a=b"])
        (folder / str(number)).mkdir()
        row = {"name": "trained", "decoding": "sampled", "improvement": {"mean": improvement}}
        greedy = {**row, "decoding": "greedy", "improvement": {"mean": -improvement}}
        text = json.dumps({"rows": [greedy, row]})
        (folder / str(number) / "evaluation.json").write_text(text)
    for number in (4, 5, 6):
        note(folder, number, overrides=["trainer.learning_rate=1", f"seed={number}", "a=b"])
    (folder / "4" / "job").mkdir(parents=True)
    write_end(folder / "4", 2, "rank 0: nextchapter train: no such model")
    note(folder, 5, error="seed: too large")
    return folder


def test_a_trial_is_done_or_failed_with_its_error_or_not_there_yet(sweep: Path) -> None:
    trials = read_trials(sweep)
    assert [trial.state for trial in trials] == ["done"] * 4 + ["failed"] * 2 + ["unfinished"]
    assert trials[4].error == "rank 0: nextchapter train: no such model"
    assert trials[5].error == "seed: too large"


def test_what_was_refused_counts_no_longer_when_it_is_asked_again(sweep: Path) -> None:
    note(sweep, 5, overrides=["seed=5"])
    assert read_trials(sweep)[5].state == "unfinished"


def test_a_line_that_a_full_disk_cut_short_spoils_no_other(sweep: Path) -> None:
    with (sweep / "trials.jsonl").open("a") as file:
        file.write('{"trial": 7, "overr')
    note(sweep, 8, overrides=["seed=8"])
    assert [trial.number for trial in read_trials(sweep)] == [*range(7), 8]


def test_a_sweep_that_asked_for_the_least_of_a_metric_has_that_as_its_best(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {"arguments": [], "metric": "kl", "direction": "minimize"}
    (sweep / "search.json").write_text(json.dumps(said))
    for number, kl in enumerate((0.25, 0.125, 0.5, 1.0)):
        lines = [{"step": 1, "kl": 9.0}, {"step": 2, "kl": kl}, {"step": 3}]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (sweep / str(number) / "metrics.jsonl").write_text(text)
    assert main(["report", f"sweep={sweep}", "run_dir=out"]) == 0
    found = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert (found["best"]["trial"], found["best"]["kl"]) == (1, 0.125)
    table = (tmp_path / "out" / "trials.csv").read_text().splitlines()
    assert table[0].split(",")[-2] == "kl" and table[1].startswith("1,")


def test_a_setting_explains_the_variance_between_its_means(sweep: Path) -> None:
    found = [r for r in read_results(sweep, Objective()) if r.value is not None]
    # Around 3: the rates' means are 5 and 1, the seeds' 2 and 4; squares 4·4 and 4·1 of 20.
    assert importance(found, varied_settings(found)) == pytest.approx(
        {"trainer.learning_rate": 0.8, "seed": 0.2}
    )


def test_the_report_lists_the_best_first_and_the_failures_with_their_errors(
    sweep: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", f"sweep={sweep}", "run_dir=out"]) == 0
    shown = capsys.readouterr().out
    assert "4 of 7 trials have a result, 2 failed; files in out" in shown
    lines = (tmp_path / "out" / "trials.csv").read_text().splitlines()
    assert lines[0] == "trial,trainer.learning_rate,seed,improvement (%),state"
    assert lines[1] == "1,1e-3,2,+6.00,done"
    assert any("failed: seed: too large" in line for line in lines)
    found = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert found["best"]["trial"] == 1
    for name in ("parallel_coordinates", "importance"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").stat().st_size > 1000


def test_the_other_decoding_can_be_the_result(sweep: Path) -> None:
    results = read_results(sweep, Objective.of_sweep(sweep, "greedy"))
    assert results[1].value == -6.0


def test_a_folder_without_a_sweep_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", "sweep=nowhere"]) == 2
    assert "sweep: nowhere holds no sweep" in capsys.readouterr().err

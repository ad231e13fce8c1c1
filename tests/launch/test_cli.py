"""The command line: what runs, what is refused, and in which words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch.cli import report
from launch.hydra_app import split_arguments

Run = Callable[..., Any]


def only_run() -> Path:
    (folder,) = Path("runs").iterdir()
    return folder


def seen(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "seen.json").read_text())


def test_a_run_goes_to_a_folder_named_after_experiment_and_seed(nextchapter: Run) -> None:
    assert nextchapter("train", "experiment=real", "seed=3").status == 0
    assert only_run().name.endswith("_real_seed3")
    assert seen(only_run())["run_dir"] == str(only_run())
    assert not Path(only_run(), ".hydra").exists()


def test_a_run_goes_where_run_dir_says(nextchapter: Run) -> None:
    assert nextchapter("train", "run_dir=here/it is").status == 0
    assert seen(Path("here/it is"))["run_dir"] == "here/it is"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["trian"], "no command 'trian'; did you mean 'train'?"),
        (["train", "seeed=1"], "seeed: no such setting; did you mean 'seed'?"),
        (["train", "data.pths=[a]"], "data.pths: no such setting; did you mean 'data.paths'?"),
        (["train", "experimnt=real"], "experimnt: no such setting; did you mean 'experiment'?"),
        (["train", "trainer=pop"], "trainer=pop: no such option; did you mean 'ppo'?"),
        (["train", "data.paths=[a"], "data.paths=[a: not understood"),
        (["train", "seed=-1"], "seed: should not be negative; got -1. Give 0 or more"),
        (["train", "seed=1,-1", "-m"], "train (job 1): seed: should not be negative"),
        (["train", "seed=1,2", "trainr=ppo", "-m"], "trainr: no such setting; did you mean"),
        (["train", "env=solo,debate", "env.rounds=1", "-m"], " write ++env.rounds=VALUE"),
        (["train", "trainer=grpo,ppo", "+trainer.learning_rate=1", "-m"], "if all do, write ++"),
        (["train", "--seed", "3"], "--seed: no such option; settings are written without dashes"),
        (["train", "--multirnu"], "did you mean '--multirun'?"),
        (["train", "--experimental-rerun", "x"], "--experimental-rerun: no such option"),
        (["train", "-cn", "nothing"], "nothing: there is no config of this name"),
        (["train", "prompt=${nobody}"], "Interpolation key 'nobody' not found"),
        (["train", "resume=runs/none"], "runs/none: no such run folder"),
        (["train", "resume=a,b", "-m"], "resume: names one run at a time"),
        (["show"], "novel.epub: no such file or directory"),
    ],
)
def test_a_user_error_is_one_line_with_status_2(
    nextchapter: Run, argv: list[str], says: str
) -> None:
    result = nextchapter(*argv)
    assert result.status == 2
    assert says in result.err
    assert result.err.count("\n") == 1
    assert not list(Path(".").glob("runs/*"))


def test_debug_shows_the_traceback_before_the_line(nextchapter: Run) -> None:
    result = nextchapter("train", "seed=-1", "--debug")
    assert result.status == 2
    assert result.err.startswith("Traceback")
    assert "Give 0 or more" in result.err.splitlines()[-1]


def test_a_defect_keeps_its_traceback(nextchapter: Run) -> None:
    with pytest.raises(AssertionError, match="a defect"):
        nextchapter("train", "seed=99")


def test_a_process_that_is_not_the_first_to_fail_says_nothing_and_keeps_mistakes_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert report("train", ValueError("seed: is negative"), False) == 2
    assert report("train", RuntimeError("gloo: connection closed by peer"), False) == 1
    assert capsys.readouterr().err == ""


def test_an_error_in_the_middle_of_a_run_leaves_its_traceback_in_the_folder(
    nextchapter: Run,
) -> None:
    assert nextchapter("train", "seed=13").status == 2
    assert "gave up late" in Path(only_run(), "error.txt").read_text()


def test_a_run_that_a_monitor_stopped_is_one_line_with_status_3(nextchapter: Run) -> None:
    result = nextchapter("train", "seed=16")
    assert (result.status, result.err) == (3, "nextchapter train: stopped by monitor no_plan\n")
    assert not (only_run() / "error.txt").exists()
    # In a sweep, a mistake of another job comes first.
    assert nextchapter("train", "seed=16,0", "-m").status == 3
    assert nextchapter("train", "seed=16,13", "-m").status == 2


def test_a_failed_job_of_a_sweep_does_not_stop_the_others(nextchapter: Run) -> None:
    result = nextchapter("train", "seed=-1,5", "--multirun")
    assert result.status == 2
    assert [seen(p.parent)["seed"] for p in Path("multirun").rglob("seen.json")] == [5]
    assert not list(Path("multirun").glob("*/0"))


def test_a_sweep_gives_each_job_its_own_folder(nextchapter: Run) -> None:
    assert nextchapter("train", "--multirun", "seed=1,2", "trainer=grpo,ppo").status == 0
    jobs = [seen(path.parent) for path in Path("multirun").rglob("seen.json")]
    assert {(job["seed"], job["trainer"]["learning_rate"]) for job in jobs} == {
        (seed, rate) for seed in (1, 2) for rate in (0.001, 0.002)
    }
    assert len({job["run_dir"] for job in jobs}) == 4


def test_cfg_job_prints_the_config_and_makes_no_folder(nextchapter: Run) -> None:
    result = nextchapter("train", "--cfg", "job", "seed=7")
    assert result.status == 0
    assert "seed: 7" in result.out
    assert not list(Path(".").iterdir())


def test_help_lists_commands_and_groups(nextchapter: Run) -> None:
    assert "evaluate" in nextchapter("--help").out
    assert "trainer: grpo, ppo" in nextchapter("train", "--help").out


def test_ctrl_c_is_one_line_that_says_how_to_go_on(nextchapter: Run) -> None:
    result = nextchapter("train", "seed=14")
    assert result.status == 130
    assert result.err.endswith(f"go on with: nextchapter train resume={only_run()}\n")


def test_a_preempted_run_is_one_line_and_a_status_of_its_own(nextchapter: Run) -> None:
    result = nextchapter("train", "seed=15,1", "--multirun")
    assert result.status == 75
    (folder,) = Path("multirun").glob("*/0")
    line = f"stopped by SIGTERM; go on with: nextchapter train resume={folder}\n"
    assert result.err.endswith(line)
    # The machine is to be left: the next job of a sweep is not begun.
    assert not list(Path("multirun").glob("*/1/seen.json"))


def test_resume_starts_from_the_saved_config_in_the_same_folder(nextchapter: Run) -> None:
    nextchapter("train", "trainer=ppo", "seed=3", r"prompt='costs \${seed}'")
    folder = only_run()
    saved = Path(folder, "config.yaml").read_bytes()
    assert nextchapter("train", f"resume={folder}", "trainer.learning_rate=0.5").status == 0
    settings = seen(folder)
    assert (settings["seed"], settings["trainer"]) == (3, {"learning_rate": 0.5})
    assert settings["prompt"] == "costs ${seed}"
    assert (settings["resume"], settings["run_dir"]) == (str(folder), str(folder))
    assert only_run() == folder
    assert Path(folder, "config.yaml").read_bytes() == saved


def test_a_refused_resume_leaves_the_run_untouched(nextchapter: Run) -> None:
    nextchapter("train")
    before = sorted((p, p.read_bytes()) for p in only_run().iterdir())
    for override in ("seed=-1", "trainr.learning_rate=1", "trainer=ppo"):
        result = nextchapter("train", f"resume={only_run()}", override)
        assert (result.status, result.err.count("\n")) == (2, 1)
    assert "was chosen when the run began" in result.err
    assert sorted((p, p.read_bytes()) for p in only_run().iterdir()) == before


def test_a_folder_that_is_no_run_cannot_be_resumed(nextchapter: Run) -> None:
    Path("notes").mkdir()
    result = nextchapter("train", "resume=notes")
    assert result.status == 2
    assert "notes: not a run folder, config.yaml is missing" in result.err


def test_evaluate_takes_the_runs_config_and_writes_beside_its_results(nextchapter: Run) -> None:
    nextchapter("train", "seed=4")
    folder = only_run()
    assert nextchapter("evaluate", f"run={folder}").status == 0
    (evaluation,) = Path(folder, "evaluations").iterdir()
    settings = seen(evaluation)
    assert (settings["seed"], settings["run"]) == (4, str(folder))
    assert settings["run_dir"] == str(evaluation)


def test_settings_of_the_command_itself_can_be_set_on_top_of_a_run(nextchapter: Run) -> None:
    nextchapter("train")
    folder = only_run()
    assert nextchapter("evaluate", f"run={folder}", "writing.words=4").status == 0
    (evaluation,) = Path(folder, "evaluations").iterdir()
    assert seen(evaluation)["writing"] == {"words": 4, "heat": 0.5}
    refused = nextchapter("evaluate", f"run={folder}", "+writing.words=4")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "writing.words: is there already; leave out the +" in refused.err


def test_evaluate_may_choose_a_group_of_the_saved_run_anew(nextchapter: Run) -> None:
    nextchapter("train", "seed=4", "trainer=ppo", "trainer.learning_rate=0.5")
    folder = only_run()
    assert nextchapter("evaluate", f"run={folder}", "trainer=grpo").status == 0
    (evaluation,) = Path(folder, "evaluations").iterdir()
    settings = seen(evaluation)
    assert (settings["seed"], settings["trainer"]) == (4, {"learning_rate": 0.001})


def test_a_setting_may_ask_for_another_config_where_there_is_no_saved_run(nextchapter: Run) -> None:
    assert nextchapter("evaluate", "trainer=ppo", "run_dir=here").status == 0
    settings = seen(Path("here"))
    assert (settings["alone"], settings["trainer"]) == (True, {"learning_rate": 0.002})


def test_a_refused_evaluation_leaves_no_folder(nextchapter: Run) -> None:
    nextchapter("train", "seed=4")
    assert nextchapter("evaluate", f"run={only_run()}", "seed=-1").status == 2
    assert not Path(only_run(), "evaluations").exists()


def test_overrides_and_options_stand_in_any_order() -> None:
    assert split_arguments(["-m", "a=1", "--cfg", "job", "b=2", "--info", "c=3"]) == (
        ["a=1", "b=2", "c=3"],
        ["-m", "--cfg", "job", "--info"],
    )


def test_a_command_gets_its_arguments_as_they_stand(nextchapter: Run) -> None:
    assert nextchapter("show", "a b", "--json").out == "['a b', '--json']\n"


def test_help_and_a_wrong_command_load_nothing_heavy(repository: Path) -> None:
    script = (
        "import sys; from launch.cli import main; main(['--help']); main(['nothing']);"
        "sys.exit(bool({'torch', 'hydra', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert done.returncode == 0

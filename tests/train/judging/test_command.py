"""`nextchapter evaluate judgments=<csv>` and `comparisons=<jsonl>`, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from train.commands.evaluations import run
from train.judging.annotations import read_annotations, write_annotations
from train.judging.judgments import TIE, Judgment
from train.models import save_model

FEW_RESAMPLES = "judging.bootstrap_samples=300"
MakeJudgment = Callable[..., Judgment]
NEXTCHAPTER = (sys.executable, "-c", "import sys; from launch.cli import main; sys.exit(main())")


@pytest.fixture
def evaluate(repository: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the command with overrides and returns what it wrote."""

    def evaluated(*overrides: str) -> dict[str, Any]:
        folder = tmp_path / "run"
        with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
            run(compose("evaluate", [f"run_dir={folder}", FEW_RESAMPLES, *overrides]))
        return json.loads((folder / "judgments.json").read_text(encoding="utf-8"))

    return evaluated


@pytest.fixture
def judged_csv(make_judgment: MakeJudgment, tmp_path: Path) -> Path:
    """Three items: `good` won two as judged by one annotator, and tied one."""
    path = tmp_path / "judged.csv"
    answers = ("good", "good", TIE)
    write_annotations(path, [make_judgment(a, f"{n}", "ann") for n, a in enumerate(answers)])
    return path


def test_the_published_file_prints_and_writes_the_published_numbers(
    evaluate: Callable[..., dict[str, Any]],
    published_csv: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = evaluate(f"judgments={published_csv}")
    printed = capsys.readouterr().out
    overall = found["dimensions"]["overall_quality"]
    shares = {
        (pair["first"], pair["second"]): round(100 * pair["probability"]["value"], 1)
        for pair in overall["pairs"]
    }
    assert shares["trained_7b", "base7b"] == 76.5
    assert shares["trained_7b", "basewr_7b"] == 64.7
    assert shares["trained_7b", "basesft_7b"] == 90.0
    strengths = overall["bradley_terry_ties_dropped"]["strengths"]
    assert [round(s["value"], 3) for s in strengths.values()] == [0.503, 0.284, 0.170, 0.043]
    for number in ("76.5 [", "64.7 [", "90.0 [", "0.503 [", "0.284 [", "0.170 [", "0.043 ["):
        assert number in printed
    assert "120 judgments of 20 items, told apart by texts in common." in printed
    assert "Not used: scifi, fantasy, romance, historical." in printed
    assert "Agreement: unknown" in printed and "Position bias: unknown" in printed


def test_the_same_file_and_seed_give_the_same_numbers(
    repository: Path, judged_csv: Path, tmp_path: Path
) -> None:
    found = []
    for name in ("one", "two"):
        with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
            overrides = [f"run_dir={tmp_path / name}", f"judgments={judged_csv}", FEW_RESAMPLES]
            run(compose("evaluate", overrides))
        found.append((tmp_path / name / "judgments.json").read_text(encoding="utf-8"))
    assert found[0] == found[1]


def test_improvements_of_their_own_file_enter_the_correlation(
    evaluate: Callable[..., dict[str, Any]], judged_csv: Path, tmp_path: Path
) -> None:
    table = tmp_path / "improvements.csv"
    rows = ("0,good,3", "0,bad,1", "1,good,2", "1,bad,0", "2,good,1", "2,bad,1")
    table.write_text("\n".join(("item,option,improvement", *rows)) + "\n")
    found = evaluate(f"judgments={judged_csv}", f"judging.improvements={table}")
    association = found["dimensions"]["plot"]["improvement"]
    assert (association["votes"], association["larger_improvement_preferred"]) == (3, 2)
    assert association["spearman"]["value"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], "run: one thing is evaluated at a time"),
        (["run=runs/none", "judgments=a.csv"], "judgments: one thing is evaluated at a time"),
        (["judgments=a.csv", "judging.bootstrap_samples=5"], "judging.bootstrap_samples"),
        (["judgments=a.csv", "judging.resample=book"], "judging.resample"),
        (["comparisons=a.jsonl", "judge.batch_size=0"], "judge.batch_size"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    evaluate: Callable[..., dict[str, Any]], overrides: list[str], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        evaluate(*overrides)


def test_results_are_not_written_over(
    evaluate: Callable[..., dict[str, Any]], judged_csv: Path
) -> None:
    evaluate(f"judgments={judged_csv}")
    with pytest.raises(ValueError, match="holds an evaluation already"):
        evaluate(f"judgments={judged_csv}")


def test_a_judge_leaves_its_judgments_beside_the_report(
    evaluate: Callable[..., dict[str, Any]],
    make_model: Callable[..., PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
) -> None:
    save_model(make_model(max_position_embeddings=2048), tokenizer, tmp_path / "judge")
    texts = tmp_path / "texts.jsonl"
    entry = {"item": "book/1", "context": "Ann.", "options": {"new": "She sang.", "old": "No."}}
    texts.write_text(json.dumps(entry) + "\n")
    found = evaluate(
        f"comparisons={texts}",
        f"judge.model.path={tmp_path / 'judge'}",
        "judge.model.dtype=float32",
        "judge.name=tiny",
        "judge.sampling.max_new_tokens=4",
    )
    # A random model never finds the form: both its looks are counted, and no vote is.
    assert (found["judgments"], found["annotators"]) == (2, ["tiny"])
    assert found["dimensions"]["plot"]["judgments_without_answer"]["unclear"] == 2
    assert found["dimensions"]["plot"]["votes_without_answer"] == 1
    judgments = read_annotations(tmp_path / "run" / "judgments.csv").judgments
    assert [j.first for j in judgments] == ["new", "old"]


def test_what_a_judge_behind_an_endpoint_was_paid_stands_beside_its_judgments(
    evaluate: Callable[..., dict[str, Any]],
    serve: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEY_OF_THE_TEST", "sk-a-secret")
    answer = {
        "choices": [{"message": {"content": "I cannot say."}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 5},
    }
    server = serve(lambda *_: (200, json.dumps(answer).encode(), {}))
    texts = tmp_path / "texts.jsonl"
    entry = {"item": "book/1", "context": "Ann.", "options": {"new": "She sang.", "old": "No."}}
    texts.write_text(json.dumps(entry) + "\n")
    evaluate(
        f"comparisons={texts}",
        "agent@judge.agent=endpoint",
        f"judge.agent.base_url={server.url}",
        "judge.agent.model=m",
        "judge.agent.api_key_env=KEY_OF_THE_TEST",
        "judge.agent.prices.read=1000.0",
        "judge.name=served",
        f"judge.cache_dir={tmp_path}",
    )
    text = (tmp_path / "run" / "members.json").read_text(encoding="utf-8")
    paid = json.loads(text)["served"]
    assert (paid["requests"], paid["answers"], paid["read_tokens"]) == (2, 2, 200)
    assert paid["money"] == pytest.approx(0.2) and "sk-a" not in text


def test_a_bad_file_is_one_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "judged.csv").write_text("winner,loser\na,b\n")
    done = subprocess.run(
        [*NEXTCHAPTER, "evaluate", "judgments=judged.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("nextchapter evaluate: judged.csv: has no column 'plot'")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["judged.csv"]


def test_reading_judgments_loads_no_torch(judged_csv: Path) -> None:
    script = (
        "import sys; from launch.cli import main; main(sys.argv[1:]);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "evaluate", f"judgments={judged_csv}"],
        cwd=judged_csv.parent,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

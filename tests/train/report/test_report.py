"""The report: one page that opens offline, and every figure of it a line of a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from train.analysis.paired import Measurements, compare
from train.analysis.rows import operations_of
from train.report.answer import answer, cost
from train.report.examples import examples
from train.report.figures import figures
from train.report.leaderboard import Entry, is_on_frontier, leaderboard
from train.report.runs import Group, ReportedRun, grouped
from train.report.write import write_report
from train.statistics import Interval

BOOKS = [f"book {i}" for i in range(8)]
MakeRun = Callable[..., Path]


def evaluation(gain: float) -> dict[str, Any]:
    """Eight books, on each of which the agent went from -10 to -10 + gain."""

    def row(name: str, decoding: str | None, mean: float) -> dict[str, Any]:
        ci95 = [mean - 1, mean + 1]
        parts = [
            {"by": "book", "label": book, "mean": mean + i, "ci95": [None, None]}
            | {"episodes": 1, "books": 1}
            for i, book in enumerate(BOOKS)
        ]
        parts.append(
            {"by": "genre", "label": "crime", "mean": mean, "ci95": ci95, "episodes": 8, "books": 8}
        )
        found = {"mean": mean, "ci95": ci95, "spread": {"p50": mean}}
        made = {"name": name, "improvement": found, "episodes": 8, "books": 8, "parts": parts}
        play = {"cost/policy/generated_tokens": 5.0, "cost/other/generated_tokens": 7.0}
        play |= {"cost/policy/read_tokens": 50.0, "cost/other/read_tokens": 30.0}
        told = {"decoding": decoding, "texts": {"words": 4.0}, "play": play}
        return made | (told if decoding else {})

    means = {"untrained": -10.0, "trained": -10.0 + gain, "empty_plan": 0.0}
    measured = [
        Measurements("untrained greedy", "greedy", (means["untrained"],) * 8),
        Measurements("trained greedy", "greedy", (means["trained"],) * 8),
        Measurements("empty_plan", None, (0.0,) * 8),
    ]
    return {
        "rows": [
            row(name, None if name == "empty_plan" else "greedy", mean)
            for name, mean in means.items()
        ],
        "ablations": [],
        "checks": [],
        "comparisons": [c.as_json() for c in compare(measured, BOOKS, 100)],
        "episodes_cut": {},
    }


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes the folder of a run that ended."""

    def make(seed: int = 0, gain: float = 15.0, name: str = "small", **settings: Any) -> Path:
        folder = tmp_path / f"{name}_{seed}_{gain:g}"
        folder.mkdir()
        config = {
            "experiment_name": name,
            "seed": seed,
            "run_dir": str(folder),
            "data": {"seed": seed},
            "env": {"_target_": "envs.solo.SoloPlanner"},
            **settings,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "revision.json").write_text('{"git": {"revision": "abc", "dirty": true}}')
        (folder / "evaluation.json").write_text(json.dumps(evaluation(gain)))
        means = {"untrained greedy": -10.0, "trained greedy": gain - 10.0, "empty_plan": 0.0}
        lines = [f"{book}/1,{row},{mean}" for row, mean in means.items() for book in BOOKS]
        (folder / "improvements.csv").write_text("\n".join(["item,option,improvement", *lines]))
        metrics = [
            {"step": step, "time_s": 10.0 * step, "improvement": seed + step, "step_time": 5.0}
            | ({"monitor/gain": 1.0 * step, "num_tokens": 100.0 * step} if step % 2 else {})
            for step in (1, 2, 3)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics))
        attempts = [
            {
                "row": "trained greedy",
                "episode_id": f"{book}/1",
                "improvement": float(i),
                "plan": "Ann <b>pays</b> & goes.",
                "answer": "I think so.",
                "context": [{"heading": "So far", "text": "Ann owes."}],
                "tokens": ["Ann", " pays", "\n", "all."],
                "nats_without": [3.0, 1.0, 0.5, 2.0],
                "gain": [2.5, -0.5, 0.0, 0.05],
            }
            for i, book in enumerate(BOOKS)
        ]
        text = "".join(json.dumps(a) + "\n" for a in attempts)
        (folder / "token_gains.jsonl").write_text(text)
        return folder

    return make


@pytest.fixture
def read(make_run: MakeRun) -> Callable[..., ReportedRun]:
    return lambda **how: ReportedRun.read(make_run(**how))


def test_runs_that_differ_in_the_seed_are_one_experiment(read: Callable[..., ReportedRun]) -> None:
    runs = [read(seed=1), read(seed=0), read(seed=0, gain=1.0), read(name="other", beta=1)]
    groups = grouped(runs)
    assert [(g.name, [r.seed for r in g.runs]) for g in groups] == [
        ("small (small_1_15)", [0, 1]),
        # The same seed again is another experiment, or another evaluation.
        ("small (small_0_1)", [0]),
        ("other", [0]),
    ]


def test_evaluations_of_other_checkpoints_are_no_seeds(read: Callable[..., ReportedRun]) -> None:
    runs = [
        read(seed=0, run="runs/a", checkpoint="runs/a/checkpoint-50"),
        read(seed=1, run="runs/b", checkpoint="checkpoint-50"),
        read(seed=2, run="runs/c", checkpoint="checkpoint-100"),
        read(seed=3, run="runs/d", checkpoint=None),
    ]
    assert [(g.name, [r.seed for r in g.runs]) for g in grouped(runs)] == [
        ("small (checkpoint=['checkpoint-50'])", [0, 1]),
        ("small (checkpoint=['checkpoint-100'])", [2]),
        ("small (small_3_15)", [3]),
    ]


def test_experiments_of_one_name_keep_figures_of_their_own(
    read: Callable[..., ReportedRun], tmp_path: Path
) -> None:
    groups = grouped([read(name="a b"), read(name="a_b"), read(seed=1, name="a b", beta=2)])
    assert [g.name for g in groups] == ["a b (a b_0_15)", "a_b", "a b (beta=2)"]
    same = grouped([read(seed=5, name="x-y"), read(seed=5, name="x y")])
    drawn = figures(same)
    names = [figure.name for figure in drawn]
    assert len(set(names)) == len(names)
    assert sum(name.startswith("rows_x_y") for name in names) == 2


def test_the_band_spans_the_seeds(read: Callable[..., ReportedRun]) -> None:
    (group,) = grouped([read(seed=0), read(seed=4)])
    curve = figures([group])[0]
    (series,) = curve.series
    # Means of the steps so far, 1 to 3, then 5 to 7: 1, 1.5, 2 and 5, 5.5, 6.
    assert (series["x"], series["y"]) == ([1, 2, 3], [3.0, 3.5, 4.0])
    assert (series["low"], series["high"]) == ([1.0, 1.5, 2.0], [5.0, 5.5, 6.0])
    assert curve.levels == {"empty plan": 0.0}


def test_the_answer_is_yes_where_every_seed_is_surely_ahead(
    read: Callable[..., ReportedRun],
) -> None:
    found = answer(Group("small", (read(seed=0), read(seed=1))))
    assert found.verdict == "Yes"
    # Eight books of one mind: p = 2 / 2^8 = 0.008, the only pair of agents.
    assert found.sentences[0] == (
        "Over 2 seeds the improvement changed by +15.0 points on average (from +15.0 to +15.0), "
        "to +5.0 %."
    )
    assert found.sentences[1] == (
        "Seed 0: the improvement of 'trained greedy' went from -10.0 to +5.0 %, by +15.0 points "
        "[+15.00, +15.00] on 8 chapters of 8 books (p = 0.008, Holm)."
    )
    # Two pairs of agent and control: p = 2 · 0.008.
    assert found.sentences[3] == (
        "On average it is 5.0 points ahead of no plan; in 2 of 2 seeds that is more than chance "
        "(p < 0.05, Holm)."
    )
    alone = answer(Group("small", (read(seed=2),)))
    assert alone.sentences[1] == "It is 5.0 points ahead of no plan (p = 0.016, Holm)."


def test_the_share_of_the_ceiling_is_that_of_all_seeds(make_run: MakeRun) -> None:
    runs = []
    for seed, gain in enumerate((15.0, 13.0)):
        folder = make_run(seed=seed, gain=gain)
        found = json.loads((folder / "evaluation.json").read_text())
        ceiling = found["rows"][-1] | {"name": "inferable_plan"}
        ceiling["improvement"] = ceiling["improvement"] | {"mean": 10.0}
        found["rows"].append(ceiling)
        (folder / "evaluation.json").write_text(json.dumps(found))
        runs.append(ReportedRun.read(folder))
    # The seeds reach 5 and 3 of 10, not the better of the two alone.
    assert answer(Group("small", tuple(runs))).sentences[-1] == (
        "It reaches 40% of what a perfect reasoner would (50%, 30%)."
    )


def test_many_books_stand_in_a_row_and_few_have_their_names(make_run: MakeRun) -> None:
    folder = make_run()
    run = ReportedRun.read(folder)
    few = next(f for f in figures([Group("small", (run,))]) if f.name == "by_book")
    assert (few.kind, few.series[0]["labels"][0]) == ("dots", "book 7")
    assert "of seed 0." in few.caption
    found = json.loads((folder / "evaluation.json").read_text())
    part = {"by": "book", "ci95": [None, None], "episodes": 1, "books": 1}
    for row in found["rows"]:
        row["parts"] = [part | {"label": f"book {i}", "mean": 1.0 * i} for i in range(25)]
    (folder / "evaluation.json").write_text(json.dumps(found))
    group = Group("small", (ReportedRun.read(folder),))
    (by_book,) = [figure for figure in figures([group]) if figure.name == "by_book"]
    assert (by_book.kind, by_book.x_label) == ("ranks", "books")
    assert by_book.series[0]["y"] == [24.0 - i for i in range(25)]
    assert by_book.series[0]["labels"][0] == "book 24"


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [((0.0,), "Not shown"), ((-3.0,), "No, it got worse"), ((0.0, 3.0), "In 1 of 2 seeds")],
)
def test_an_agent_that_did_not_learn_is_told(
    read: Callable[..., ReportedRun], gains: tuple[float, ...], verdict: str
) -> None:
    runs = tuple(read(seed=seed, gain=gain) for seed, gain in enumerate(gains))
    assert answer(Group("small", runs)).verdict == verdict


def test_on_the_frontier_none_is_both_better_and_cheaper(
    read: Callable[..., ReportedRun],
) -> None:
    groups = [Group("good", (read(gain=15.0),)), Group("bad", (read(gain=2.0),))]
    columns, rows = leaderboard([Entry.of(group) for group in groups])
    assert (columns[0], columns[-1]) == ("experiment", "on the frontier")
    # In both, two members read 50 and 30 tokens, and generate 5 and 7.
    sure = "[+5.00, +5.00]", "+15.00", "[+15.00, +15.00]"
    worse = "[-8.00, -8.00]", "+2.00", "[+2.00, +2.00]"
    assert [tuple(row) for row in rows] == [
        ("good", "SoloPlanner", "+5.00", *sure, "–", "80", "12", "–", "yes"),
        ("bad", "SoloPlanner", "-8.00", *worse, "–", "80", "12", "–", ""),
    ]


def entry(improvement: float, tokens: float | None, operations: float | None) -> Entry:
    mean = Interval(improvement, (improvement, improvement))
    return Entry("one", "Cascade", mean, None, None, tokens, tokens, operations)


def test_the_frontier_is_by_operations_where_all_tell_them_and_by_tokens_else() -> None:
    # A small member reads more, and a token of it costs a tenth.
    small, large = entry(5.0, 100.0, 2.0), entry(5.0, 50.0, 10.0)
    assert [is_on_frontier(e, [small, large]) for e in (small, large)] == [True, False]
    endpoint = entry(1.0, 200.0, None)
    assert [is_on_frontier(e, [small, large, endpoint]) for e in (small, large, endpoint)] == [
        *(False, True, False)
    ]
    # Who tells neither says nothing of the terms.
    silent = entry(9.0, None, None)
    assert [is_on_frontier(e, [small, large, silent]) for e in (small, large, silent)] == [
        *(True, False, False)
    ]
    _, rows = leaderboard([small, endpoint])
    assert [row[-2] for row in rows] == ["2", "–"]


def test_operations_are_told_only_where_every_member_tells_them() -> None:
    play = {"cost/policy/read_tokens": 50.0, "cost/policy/giga_operations": 2.0}
    play |= {"cost/router/generated_tokens": 5.0, "cost/router/giga_operations": 0.5}
    assert operations_of(play) == 2.5
    assert operations_of(play | {"cost/ann/read_tokens": 0.0}) == 2.5
    assert operations_of(play | {"cost/ann/read_tokens": 1.0}) is None
    assert operations_of({}) is None


def test_seeds_are_pooled_by_book(read: Callable[..., ReportedRun]) -> None:
    found = Entry.of(Group("both", (read(seed=1, gain=15.0), read(seed=2, gain=12.0))))
    # Each book has both seeds, so that no draw of books changes the mean.
    assert found.improvement == Interval(3.5, (3.5, 3.5))
    assert found.gain == Interval(13.5, (13.5, 13.5))


def test_the_whole_is_ahead_where_it_beats_every_writer(make_run: MakeRun) -> None:
    folder = make_run()
    found = json.loads((folder / "evaluation.json").read_text())
    for row in found["rows"]:
        row.pop("decoding", None)
    (folder / "evaluation.json").write_text(json.dumps(found))
    rows = {"trained": 5.0, "untrained": -10.0, "writer_a": 0.0}
    lines = [f"{book}/1,{row},{mean}" for row, mean in rows.items() for book in BOOKS]
    # One writer is better on the first book, and on the second it is the one that was chosen.
    best = [6.0, 5.0 - 1e-5] + [4.0] * 6
    lines += [f"{book}/1,writer_b,{mean}" for book, mean in zip(BOOKS, best, strict=True)]
    (folder / "improvements.csv").write_text("\n".join(["item,option,improvement", *lines]))
    entry = Entry.of(Group("whole", (ReportedRun.read(folder),)))
    assert entry.ahead is not None and entry.ahead.mean == 0.75
    assert entry.gain is not None and entry.gain.mean == 15.0


def test_a_collaboration_is_ahead_where_it_beats_each_role_alone_and_no_plan(
    make_run: MakeRun,
) -> None:
    folder = make_run()
    # As good as the first role on one book, worse than no plan on another.
    whole = [5.0, -1.0, *[5.0] * 6]
    alone = {"alone_drafter": [5.0, -3.0, *[4.0] * 6], "empty_plan": [0.0] * 8}
    rows = {"trained greedy": whole, "untrained greedy": whole, **alone}
    rows["without_drafter"] = [9.0] * 8
    lines = [
        f"{book}/1,{row},{value}"
        for row, values in rows.items()
        for book, value in zip(BOOKS, values, strict=True)
    ]
    (folder / "improvements.csv").write_text("\n".join(["item,option,improvement", *lines]))
    entry = Entry.of(Group("whole", (ReportedRun.read(folder),)))
    assert entry.ahead is not None and entry.ahead.mean == 0.75


def test_examples_are_the_best_and_the_worst_with_shades(
    read: Callable[..., ReportedRun],
) -> None:
    best, worst = examples(read(), 2)
    assert (best.episode_id, best.rank) == ("book 7/1", "rank 1 of 8")
    assert (worst.episode_id, worst.rank) == ("book 0/1", "rank 8 of 8")
    assert [(t.direction, t.gain_shade) for t in best.tokens] == [
        ("up", 1.0),
        ("down", 0.25),
        ("", 0.0),
        ("", 0.03),
    ]
    # 3 of 6 nats without the plan, 0.5 of 6 with it.
    assert (best.tokens[0].cost_shade_without, best.tokens[0].cost_shade_with) == (0.5, 0.08)


@pytest.fixture
def page(read: Callable[..., ReportedRun], tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    folder.mkdir()
    return write_report(grouped([read(seed=0), read(seed=1), read(name="other")]), folder, 2)


def test_the_page_asks_for_nothing_from_outside(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)=["'](?!#)""", text)
    assert not re.search(r"url\((?!#)", text)
    assert "<script" not in text and "@import" not in text
    assert len(text) < 2_000_000
    # What an agent says is text.
    assert "Ann &lt;b&gt;pays&lt;/b&gt; &amp; goes." in text


def test_every_figure_is_a_line_of_a_file_and_a_picture(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    lines = (page.parent / "figures.jsonl").read_text(encoding="utf-8").splitlines()
    names = [json.loads(line)["name"] for line in lines]
    assert names == [
        *("learning_curve", "rows_small", "rows_other", "by_book", "by_genre"),
        *("monitor_gain", "step_time", "frontier"),
    ]
    for number, name in enumerate(names, start=1):
        figure = re.search(rf'<figure id="{name}">.*?</figure>', text, re.DOTALL)
        assert figure and f"figures.jsonl, line {number}." in figure.group()
        assert '<svg role="img"' in figure.group()
        assert (page.parent / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_tables_are_left_for_a_paper(page: Path) -> None:
    folder = page.parent
    assert (folder / "leaderboard.csv").read_text().startswith("experiment,env,improvement (%)")
    assert "\\toprule" in (folder / "cost.tex").read_text()
    for name in ("evaluation.csv", "evaluation.json", "parts.tex", "texts.tex"):
        assert len(list(folder.glob(f"tables/*/{name}"))) == 3
    written = json.loads((folder / "report.json").read_text())
    assert [a["verdict"] for a in written["answers"]] == ["Yes", "Yes"]
    # 15 s in three steps of 20 s.
    assert written["cost"][0] | {"experiment": ""} == {
        **{"experiment": "", "seed": 0, "steps": 3, "minutes": "0.3", "s per step": "5.00"},
        **{"outside steps": "25 %", "tokens": "300"},
    }


def test_cost_is_told_by_part_where_the_parts_were_measured(make_run: MakeRun) -> None:
    folder = make_run()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    parts = {"rollout": 3.0, "waiting": 0.0, "scoring": 1.0, "update": 1.0, "outside": 5.0}
    more = {f"time/{part}": seconds for part, seconds in parts.items()}
    more |= {"throughput/tokens_per_s": 1500.0, "throughput/mfu": 0.25, "cost/step": 0.5}
    text = "".join(json.dumps(line | more) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    run = ReportedRun.read(folder)
    columns, (row,) = cost([Group("small", (run,))])
    told = dict(zip(columns, row, strict=True))
    # Three steps of five seconds in twenty: 9, 0, 3 and 3 of them.
    shares = [told[part] for part in ("rollout", "waiting", "scoring", "update", "outside steps")]
    assert shares == ["45 %", "0 %", "15 %", "15 %", "25 %"]
    # Three steps of a half each.
    assert (told["tokens per s"], told["MFU"], told["cost"]) == ("1,500", "25.0%", "1.50")
    (drawn,) = [f for f in figures([Group("small", (run,))]) if "step_time_parts" in f.name]
    assert [series["name"] for series in drawn.series] == list(parts)
    assert drawn.series[0]["y"] == [3.0, 3.0, 3.0]


def test_a_chapter_that_the_generator_wrote_is_shown_with_its_plan(
    make_run: MakeRun, tmp_path: Path
) -> None:
    folder = make_run()
    path = folder / "token_gains.jsonl"
    first, *others = path.read_text().splitlines()
    written = {"written": "Ann went <home>.", "written_without_plan": "Bob slept."}
    path.write_text("\n".join([json.dumps(json.loads(first) | written), *others]) + "\n")
    found = json.loads((folder / "evaluation.json").read_text())
    found["rows"][1]["chapters"] = {"plans": 1, "words": 3.0}
    found["rows"][1]["second_generator"] = {"mean": 2.5, "ci95": [1.0, 4.0]}
    (folder / "evaluation.json").write_text(json.dumps(found))
    run = ReportedRun.read(folder)
    assert [e.written for e in examples(run, 8)] == [None] * 7 + ["Ann went <home>."]
    (tmp_path / "report").mkdir()
    group = Group("small", (run,))
    page = write_report([group], tmp_path / "report", 8).read_text()
    assert "Ann went &lt;home&gt;." in page and "Bob slept." in page
    assert "Written chapters: small, seed 0" in page
    assert "its plans are worth +2.5 % [+1.00, +4.00] (seed 0)." in page
    assert "+2.50 [+1.00, +4.00]" in page


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda run: (run / "evaluation.json").unlink(), "has no evaluation.json yet"),
        (lambda run: (run / "evaluation.json").write_text("{}"), "by an earlier version"),
        (lambda run: (run / "config.yaml").unlink(), "not a run folder"),
    ],
)
def test_a_folder_that_cannot_be_reported_is_refused(
    make_run: MakeRun, spoil: Callable[[Path], Any], says: str
) -> None:
    run = make_run()
    spoil(run)
    with pytest.raises((ValueError, OSError), match=says):
        ReportedRun.read(run)


def test_an_evaluation_of_a_run_has_the_curve_of_that_run(make_run: MakeRun) -> None:
    trained = make_run()
    evaluated = make_run(seed=3, run=str(trained))
    (evaluated / "metrics.jsonl").unlink()
    assert [m["step"] for m in ReportedRun.read(evaluated).metrics] == [1, 2, 3]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_real_browser_shows_the_page_on_a_phone_and_a_screen_in_light_and_dark(
    page: Path, browser: Any, width: int, scheme: str
) -> None:
    before = len(browser.requests)
    browser.open(page.as_uri(), width, scheme)
    # The page alone, and nothing else from anywhere.
    assert browser.requests[before:] == [page.as_uri()]
    root = "document.documentElement"
    assert browser.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
    assert browser.evaluate("document.querySelectorAll('figure svg').length") == 8
    narrowest = "Math.min(...[...document.querySelectorAll('figure svg')].map(s => s.clientWidth))"
    assert browser.evaluate(narrowest) > 300
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(253, 253, 252)", "dark": "rgb(23, 24, 27)"}[scheme]
    # What figures are drawn with has the colour of the text.
    ink = "getComputedStyle(document.querySelector('figure svg text')).fill"
    assert browser.evaluate(ink) == browser.evaluate("getComputedStyle(document.body).color")


def test_an_example_is_coloured_by_gain_or_by_surprise(page: Path, browser: Any) -> None:
    browser.open(page.as_uri())
    colour = "getComputedStyle(document.querySelectorAll('.example .t')[{}]).backgroundColor"
    gained, lost, same = (browser.evaluate(colour.format(i)) for i in range(3))
    assert len({gained, lost, same}) == 3
    browser.evaluate("document.querySelector('.example .without').click()")
    without = browser.evaluate(colour.format(0))
    browser.evaluate("document.querySelector('.example .with').click()")
    assert len({gained, without, browser.evaluate(colour.format(0))}) == 3

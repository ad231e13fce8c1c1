"""`nextchapter judge comparisons=JSONL annotators=[ann,bob]`: a page on which people judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from omegaconf import DictConfig
from pydantic import Field
from rich.console import Console

from train.config.validate import parse
from train.judging.ballots import Ballots
from train.judging.comparisons import read_comparisons
from train.judging.desk import Desk


@dataclass(frozen=True)
class DeskConfig:
    """One round of judging; the same `run_dir` goes on with it."""

    run_dir: str
    comparisons: str | None = None
    """JSONL of texts, as for a judge agent."""
    annotators: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Names of those who judge; each has a link of their own."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port on this machine; 0 takes a free one."""
    seed: int = 0
    """Of the order of comparisons and of sides."""
    experiment_name: str = "judging"


def run(config: DictConfig) -> None:
    """Serves the page until Ctrl-C."""
    settings = parse(DeskConfig, config)
    if settings.comparisons is None or not settings.annotators:
        raise ValueError(
            f"{'annotators' if settings.comparisons else 'comparisons'}: is missing; "
            "nextchapter judge comparisons=TEXTS.jsonl annotators=[ann,bob] run_dir=FOLDER"
        )
    comparisons = read_comparisons(Path(settings.comparisons))
    folder = Path(settings.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    ballots = Ballots(folder / "answers.sqlite", comparisons, settings.seed)
    console = Console()
    with Desk(ballots, folder / "judgments.csv", settings.port) as desk:
        for name, address in desk.addresses(settings.annotators).items():
            done = sum(ballot.is_done for ballot in ballots.ballots(name))
            left = len(comparisons) - done
            console.print(f"{name}: {address} ({left} to judge)", highlight=False, soft_wrap=True)
        console.print(
            f"Judgments are in {folder}/judgments.csv; Ctrl-C ends, run_dir={folder} goes on.",
            highlight=False,
            soft_wrap=True,
        )
        try:
            desk.serve_forever()
        except KeyboardInterrupt:
            console.print("Saved.")
        finally:
            ballots.close()

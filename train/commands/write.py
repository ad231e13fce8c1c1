"""`nextchapter write book=... chapter=...`: the next chapter, by an env and the generator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console
from rich.markdown import Markdown

from envs.sampling import Sampling
from train.commands.evaluate import find_checkpoint, kept_models, policy_at, with_policy
from train.config.validate import parse, plain
from train.files import write_text
from train.progress import ProgressDisplay
from train.run_folder import RunFolder
from train.schema import CHAPTERS, ModelConfig, RunConfig

if TYPE_CHECKING:
    from train.run import Run


@dataclass(frozen=True)
class WriteSettings:
    """What is written, by whom, and how; the rest is a run's settings."""

    book: str
    """A book of the data, by its id or a part of it."""
    chapter: int
    """The number of the chapter to write; what stands before it is known."""
    writing: Sampling = field(default_factory=lambda: CHAPTERS)
    """How the generator writes."""
    run: str | None = None
    """A run whose settings and agent are taken; empty for the agent before reinforcement."""
    checkpoint: str | None = None
    """A checkpoint of the run, in place of its agent."""


def run(config: DictConfig) -> None:
    """Plays the env at one chapter, has it written, and shows the scratchpad."""
    values = plain(config)
    own: dict[str, Any] = {
        name: values.pop(name) for name in WriteSettings.__dataclass_fields__ if name in values
    }
    for name in ("book", "chapter"):
        if own.get(name) is None:
            raise ValueError(f"{name}: says what is to be written; give book=NAME chapter=NUMBER")
    asked = parse(WriteSettings, own)
    settings = parse(RunConfig, values)
    from envs.ensemble import Ensemble
    from train.ensembles.writing import write_together
    from train.member_ledgers import ledgers_in, report_members
    from train.quiet import quiet_libraries
    from train.run import Run
    from train.writing import write

    quiet_libraries()
    trained = RunFolder.open(asked.run) if asked.run else None
    kept = kept_models(trained, settings) if trained else {}
    prepared = Run.prepare(settings, ProgressDisplay(), kept, is_trained=trained is not None)
    if isinstance(prepared.env, Ensemble):
        if asked.checkpoint is not None:
            raise ValueError("checkpoint: an ensemble has none; leave it out")
        if trained is not None:
            prepared = with_policy(prepared, trained)
        earlier = trained and trained.path
        written = write_together(prepared, earlier, asked.book, asked.chapter, asked.writing)
    else:
        policy = _policy(prepared, trained, asked.checkpoint)
        written = write(prepared, policy, asked.book, asked.chapter, asked.writing)
    with RunFolder.create(settings.run_dir, config) as folder:
        path = folder.path / "chapter.md"
        write_text(path, written.as_markdown())
        report_members(folder.path, ledgers_in(prepared.env))
    console = Console()
    console.print(Markdown(written.as_markdown()))
    console.print(f"It is in {path}")


def _policy(prepared: Run, trained: RunFolder | None, checkpoint: str | None) -> ModelConfig | None:
    """The run's agent; None for the agent before reinforcement."""
    if trained is None:
        return None
    return policy_at(find_checkpoint(trained, checkpoint), prepared, trained)

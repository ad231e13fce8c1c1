"""`nextchapter train`: one run from books to an evaluated agent."""

from __future__ import annotations

from omegaconf import DictConfig
from rich.console import Console

from train import ranks
from train.config.validate import parse
from train.preemption import StopSignals
from train.progress import ProgressDisplay
from train.run_folder import RunFolder
from train.schema import RunConfig


def run(config: DictConfig) -> None:
    """Validates the config, then trains; `resume` goes on in the folder of an earlier run."""
    signals = StopSignals()
    with signals.installed():
        _run(config, signals)


def _run(config: DictConfig, signals: StopSignals) -> None:
    settings = parse(RunConfig, config)
    # Heavy, and not needed to refuse a bad setting.
    from train import pipeline
    from train.member_ledgers import accounted, ledgers_in
    from train.quiet import quiet_libraries
    from train.run import Run
    from train.tables import evaluation_table

    quiet_libraries()

    prepared = Run.prepare(settings, ProgressDisplay(), signals=signals)

    def hold() -> RunFolder:
        if settings.resume:
            return RunFolder.open(settings.resume, to_write=True)
        return RunFolder.create(settings.run_dir, config)

    with (
        RunFolder.of_all_ranks(hold) as folder,
        accounted(folder.path, ledgers_in(prepared.env)),
    ):
        evaluation = pipeline.train(prepared, folder)
    if not ranks.is_main():
        return
    console = Console()
    console.print(evaluation_table(evaluation))
    console.print(f"The run is in {folder.path}; its README.md says what each file is.")

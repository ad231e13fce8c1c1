"""`nextchapter evaluate run=runs/<run>`: any checkpoint of a run, on unseen books."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from train import ranks
from train.config.validate import parse, plain
from train.manifest import check_whole
from train.progress import ProgressDisplay
from train.run_folder import RunFolder
from train.schema import ModelConfig, RunConfig


def run(config: DictConfig) -> None:
    """Evaluates the run's agent, or the one in `checkpoint`, with the run's own settings."""
    values = plain(config)
    earlier = values.pop("run", None)
    checkpoint = values.pop("checkpoint", None)
    if earlier is None:
        raise ValueError("run: says which run to evaluate; give run=runs/<run>")
    settings = parse(RunConfig, values)
    trained = RunFolder.open(earlier)
    policy = find_checkpoint(trained, checkpoint)
    from train import results
    from train.quiet import quiet_libraries
    from train.run import Run
    from train.tables import evaluation_table

    quiet_libraries()

    kept = kept_models(trained, settings)
    prepared = Run.prepare(settings, ProgressDisplay(), kept)
    with RunFolder.of_all_ranks(lambda: RunFolder.create(settings.run_dir, config)) as folder:
        evaluation = results.evaluate(prepared, prepared.base_policy.at(policy))
        results.write_results(prepared, evaluation, folder)
    if not ranks.is_main():
        return
    console = Console()
    console.print(evaluation_table(evaluation))
    console.print(f"Results are in {folder.path}")


def kept_models(trained: RunFolder, settings: RunConfig) -> dict[str, ModelConfig]:
    """What the run keeps of its earlier stages, by stage.

    A stage whose training settings are no longer the run's is left out: it asks for another model.
    """
    asked, saved = _training(settings), _training(parse(RunConfig, trained.load_config()))
    generator = settings.generator.model
    bases = {
        "generator": generator,
        "warm_start": settings.policy.model or generator,
        "sft_baseline": generator,
    }
    return {
        stage: base.at(trained.model_dir(stage))
        for stage, base in bases.items()
        if asked[stage] == saved[stage] and trained.model_dir(stage).is_dir()
    }


def _training(settings: RunConfig) -> dict[str, object]:
    """The settings that say how the model of each stage is made."""
    generator = settings.generator
    made = (generator.model, generator.reading, generator.training)
    return {
        "generator": made,
        "warm_start": (settings.policy.model, settings.warm_start),
        "sft_baseline": (made, settings.sft_baseline),
    }


def find_checkpoint(trained: RunFolder, checkpoint: str | None) -> Path:
    """The folder of the agent: the trained policy, or a named checkpoint of the run or anywhere."""
    if checkpoint is None:
        if not trained.policy_dir.is_dir():
            raise FileNotFoundError(
                f"{trained.path}: has no trained policy yet; finish it with "
                f"nextchapter train resume={trained.path}, or name a checkpoint=..."
            )
        return trained.policy_dir
    places = (trained.path / checkpoint, trained.checkpoints_dir / checkpoint, Path(checkpoint))
    for folder in places:
        if folder.is_dir():
            check_whole(folder)
            return folder
    raise FileNotFoundError(
        f"checkpoint: {checkpoint} is neither in {trained.path} nor a folder; "
        f"checkpoints are in {trained.checkpoints_dir}"
    )

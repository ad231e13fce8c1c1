"""`nextchapter evaluate run=runs/<run>`: any checkpoints, as that run judges its own; or, with
`env=` alone, the agent before reinforcement."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.console import Console

from train import ranks
from train.analysis.rows import TRAINED
from train.config.validate import parse, plain
from train.manifest import check_whole
from train.progress import ProgressDisplay
from train.run_folder import RunFolder
from train.schema import ModelConfig, RunConfig

if TYPE_CHECKING:
    from train.run import Run

TABLES_WIDTH = 120
"""Columns of a pipe or a file, which have no width of their own."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def run(config: DictConfig) -> None:
    """Evaluates the run's agent, or those in `checkpoint`, with the run's own settings.

    Without a run, the settings are those of one that was never trained.
    """
    values = plain(config)
    earlier = values.pop("run", None)
    checkpoint = values.pop("checkpoint", None)
    settings = parse(RunConfig, values)
    trained = None if earlier is None else RunFolder.open(earlier)
    from envs.ensemble import Ensemble
    from train import results
    from train.ensembles.run import evaluate_ensemble
    from train.member_ledgers import accounted, ledgers_in
    from train.quiet import quiet_libraries
    from train.run import Run
    from train.tables import comparisons_table, evaluation_table

    quiet_libraries()

    kept = {} if trained is None else kept_models(trained, settings)
    is_trained = trained is not None
    prepared = Run.prepare(settings, ProgressDisplay(), kept, is_trained=is_trained)
    is_ensemble = isinstance(prepared.env, Ensemble)
    if trained is not None:
        prepared = with_policy(prepared, trained)
    if is_ensemble and checkpoint is not None:
        raise ValueError("checkpoint: an ensemble has none; leave it out")
    policies = {}
    if trained is not None and not is_ensemble:
        places = find_checkpoints(trained, checkpoint)
        policies = {name: policy_at(place, prepared, trained) for name, place in places.items()}

    def hold() -> RunFolder:
        return RunFolder.for_evaluation(settings.run_dir, config)

    with (
        RunFolder.of_all_ranks(hold) as folder,
        accounted(folder.path, ledgers_in(prepared.env)),
    ):
        if is_ensemble:
            evaluation = evaluate_ensemble(prepared, folder, trained and trained.path)
        else:
            evaluation = results.evaluate(prepared, policies)
        results.write_results(prepared, evaluation, folder)
    if not ranks.is_main():
        return
    console = Console(width=None if sys.stdout.isatty() else TABLES_WIDTH)
    console.print(evaluation_table(evaluation), comparisons_table(evaluation), sep="\n")
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
    for name, writer in settings.writers.items():
        bases[f"writer_{name}"] = writer.model
    return {
        stage: base.at(trained.model_dir(stage))
        for stage, base in bases.items()
        if stage in saved and asked[stage] == saved[stage] and trained.model_dir(stage).is_dir()
    }


def _training(settings: RunConfig) -> dict[str, object]:
    """The settings that say how the model of each stage is made."""
    generator = settings.generator
    made = (generator.model, generator.reading, generator.training)
    return {
        "generator": made,
        "warm_start": (settings.policy.model, settings.warm_start),
        "sft_baseline": (made, settings.sft_baseline),
        **{
            f"writer_{name}": (writer.model, writer.reading, writer.training)
            for name, writer in settings.writers.items()
        },
    }


def with_policy(prepared: Run, trained: RunFolder) -> Run:
    """The same, and where its ensemble asks the policy and the run has trained one, with that."""
    from envs.ensemble import Ensemble

    env, place = prepared.env, trained.policy_dir
    if not isinstance(env, Ensemble) or not env.asks_policy or not place.is_dir():
        return prepared
    return replace(prepared, kept={**prepared.kept, "policy": policy_at(place, prepared, trained)})


def find_checkpoints(
    trained: RunFolder, named: str | Sequence[str] | None
) -> dict[str, Path | str]:
    """The agents to judge by their names in the table: folders, or ids on the Hub.

    One is called `trained`, several are called as they were named.
    """
    if named is None or isinstance(named, str):
        return {TRAINED: find_checkpoint(trained, named)}
    names = [str(name).rstrip("/") for name in named]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"checkpoint: should name different checkpoints; got {names}")
    return {name: find_checkpoint(trained, name) for name in names}


def find_checkpoint(trained: RunFolder, checkpoint: str | None) -> Path | str:
    """The agent: the trained policy, a checkpoint of the run or anywhere, another run, a Hub id."""
    if checkpoint is None:
        return _policy_of(trained)
    places = (trained.path / checkpoint, trained.checkpoints_dir / checkpoint, Path(checkpoint))
    for folder in places:
        if (folder / "config.yaml").is_file():
            return _policy_of(RunFolder.open(folder))
        if folder.is_dir():
            check_whole(folder)
            return folder
    if _HUB_ID.fullmatch(checkpoint) and not Path(checkpoint).parent.exists():
        return checkpoint
    raise FileNotFoundError(
        f"checkpoint: {checkpoint} is neither in {trained.path} nor a folder; "
        f"checkpoints are in {trained.checkpoints_dir}"
    )


def _policy_of(trained: RunFolder) -> Path:
    if not trained.policy_dir.is_dir():
        raise FileNotFoundError(
            f"{trained.path}: has no trained policy yet; finish it with "
            f"nextchapter train resume={trained.path}, or name a checkpoint=..."
        )
    return trained.policy_dir


def policy_at(place: Path | str, prepared: Run, trained: RunFolder) -> ModelConfig:
    """The model there; adapters of this run go on its warm start, others on the model they name.

    Raises:
        ValueError: there is no model, or adapters name none that can be reached.
    """
    from transformers.utils.peft_utils import find_adapter_config_file

    from train.models import check_model, voice_folders

    config = find_adapter_config_file(str(place))
    own = isinstance(place, Path) and place.is_relative_to(trained.path)
    policy = replace(prepared.base_policy, path=str(place), revision=None)
    by_role = {} if (Path(place) / "config.json").is_file() else voice_folders(place)
    if by_role:
        # Of a checkpoint, which has no weights beside them.
        config = str(next(iter(by_role.values())) / "adapter_config.json")
    if config is not None and own:
        policy = replace(prepared.warm_start, adapter=str(place))
    elif config is not None:
        named = json.loads(Path(config).read_text(encoding="utf-8"))
        base, pinned = named["base_model_name_or_path"], named.get("revision")
        policy = replace(policy, path=base, revision=pinned, adapter=str(place))
    check_model(policy, "checkpoint")
    return policy

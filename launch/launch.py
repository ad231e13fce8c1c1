"""`nextchapter launch KIND`: plans a run, makes a job of it, and follows that job."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence

from launch.cli import CONFIG_DIR, Command
from launch.hydra_app import run_with_hydra
from train.config.hints import did_you_mean

KINDS: Mapping[str, Command] = {
    "plan": Command(
        "launch.plan:run", "memory per GPU of a run, term by term; refuses what cannot fit", "train"
    ),
    "train": Command(
        "launch.jobs.train:run",
        "a run as a job: launch=local|slurm|ray|kubernetes; --dry-run shows it",
        "launch_train",
        saved_run_key="resume",
        saved_run_groups=("launch",),
    ),
    "prefetch": Command(
        "launch.jobs.prefetch:run",
        "bring the models and data of a run into the Hub's cache, for jobs without Internet",
        "launch_train",
    ),
    "status": Command("launch.jobs.follow:status", "what became of the job of RUN"),
    "logs": Command("launch.jobs.follow:logs", "what a process of the job of RUN says: --rank N"),
    "cancel": Command("launch.jobs.follow:cancel", "end the job of RUN, with a checkpoint"),
}
# What is asked most often has a short form.
SHORT = ("nodes", "gpus_per_node", "gpu_memory_gb")


def main(argv: Sequence[str]) -> int:
    """Runs `nextchapter launch KIND ...`; settings are those of `train`."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: nextchapter launch KIND [SETTING=VALUE ... | RUN]\n")
        print(*(f"  {name:<8}  {kind.summary}" for name, kind in KINDS.items()), sep="\n")
        print("\nSettings are those of `nextchapter train`; hardware is the machines. Short forms:")
        print(*(f"  {name}=N  for hardware.{name}=N" for name in SHORT), sep="\n")
        return 0
    kind, *settings = argv
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS)
        raise ValueError(f"no kind of launch '{kind}'; {hint}there is {', '.join(KINDS)}")
    if KINDS[kind].config_name is None:
        return KINDS[kind].load()(settings)
    if "--dry-run" in settings:
        settings = [*(item for item in settings if item != "--dry-run"), "launch.dry_run=true"]
    settings = [
        f"hardware.{setting}" if setting.partition("=")[0] in SHORT else setting
        for setting in settings
    ]
    # What the run says goes into its own log, and not into one of this command.
    settings.append("hydra/job_logging=none")
    if kind == "train":
        return run_with_hydra(f"launch {kind}", KINDS[kind], settings, CONFIG_DIR, False)
    with tempfile.TemporaryDirectory() as folder:
        # Nothing is run, so no run folder is left behind.
        settings.append(f"hydra.run.dir={folder}/run")
        return run_with_hydra(f"launch {kind}", KINDS[kind], settings, CONFIG_DIR, False)

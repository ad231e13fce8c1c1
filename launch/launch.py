"""`nextchapter launch plan`: whether a run fits the machines that it is meant for."""

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
}
# What is asked most often has a short form.
SHORT = ("nodes", "gpus_per_node", "gpu_memory_gb")


def main(argv: Sequence[str]) -> int:
    """Runs `nextchapter launch KIND [SETTING=VALUE ...]`; settings are those of `train`."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: nextchapter launch KIND [SETTING=VALUE ...]\n")
        print(*(f"  {name}  {kind.summary}" for name, kind in KINDS.items()), sep="\n")
        print("\nSettings are those of `nextchapter train`; hardware is the machines. Short forms:")
        print(*(f"  {name}=N  for hardware.{name}=N" for name in SHORT), sep="\n")
        return 0
    kind, *settings = argv
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS)
        raise ValueError(f"no kind of launch '{kind}'; {hint}there is {', '.join(KINDS)}")
    settings = [
        f"hardware.{setting}" if setting.partition("=")[0] in SHORT else setting
        for setting in settings
    ]
    with tempfile.TemporaryDirectory() as folder:
        # Nothing is run, so no run folder is left behind.
        settings += [f"hydra.run.dir={folder}/run", "hydra/job_logging=none"]
        return run_with_hydra(f"launch {kind}", KINDS[kind], settings, CONFIG_DIR, False)

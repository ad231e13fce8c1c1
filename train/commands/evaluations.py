"""`nextchapter evaluate`: of a run, an env, or judgments; each loads only what it needs."""

from __future__ import annotations

from omegaconf import DictConfig, open_dict


def run(config: DictConfig) -> None:
    """Evaluates what the settings name: run=..., env=..., judgments=... or comparisons=..."""
    named = [key for key in ("run", "judgments", "comparisons") if config.get(key) is not None]
    if not named and "env" in config:
        # The config of a whole run, which no run has left behind.
        named = ["run"]
    if len(named) != 1:
        raise ValueError(
            f"{named[1] if named else 'run'}: one thing is evaluated at a time; give "
            "run=runs/<run>, env=<name>, judgments=<csv>, or comparisons=<jsonl> with a "
            "judge.model.path"
        )
    if named == ["run"]:
        from train.commands import evaluate

        with open_dict(config):
            for key in ("judgments", "comparisons"):
                config.pop(key)
        evaluate.run(config)
    else:
        from train.commands import judgments

        judgments.run(config)

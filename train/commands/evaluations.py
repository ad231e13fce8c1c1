"""`nextchapter evaluate`: of a run, or of judgments; each loads only what it needs."""

from __future__ import annotations

from omegaconf import DictConfig, open_dict


def run(config: DictConfig) -> None:
    """Evaluates what the settings name: run=..., judgments=... or comparisons=..."""
    named = [key for key in ("run", "judgments", "comparisons") if config.get(key) is not None]
    if len(named) != 1:
        raise ValueError(
            f"{named[1] if named else 'run'}: one thing is evaluated at a time; give "
            "run=runs/<run>, judgments=<csv>, or comparisons=<jsonl> with a judge.model.path"
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

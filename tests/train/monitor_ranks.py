"""Two real processes whose training is watched: `python monitor_ranks.py <folder> <way>…`.

A way is as in training_ranks.py: how training is spread, with adapters (`_lora`), by PPO (`_ppo`),
or with a bound that the first judged probe is beyond (`_stopped`). Every rank writes its probes to
`<folder>/<rank>.json`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from peft import LoraConfig
from training_ranks import ENV, LORA, SETTINGS, TINY, TINY_PPO, WORLD, encoder, main, tiny_model
from training_ranks import tokenizer as make_tokenizer
from transformers import PreTrainedModel

from envs.sampling import Sampling
from rewards.likelihood_improvement import LikelihoodImprovement
from rewards.status_rules import StatusRules
from rewards.terms.raw import Raw
from rewards.types import LikelihoodScorer
from rewards.weighted_sum import WeightedTerm
from train import ranks
from train.algorithms import order_of, train_policy
from train.logs import JsonlSink, MetricLog
from train.monitors.callback import MonitorCallback
from train.monitors.limits import Limits
from train.monitors.probe import Probe
from train.schema import ScorerConfig
from train.scoring import make_scorer

# More than every share: whatever the probe finds is beyond it.
BOUND = {"truncated": Limits(stop_above=-1.0)}


def reward_of(scorer: LikelihoodScorer) -> LikelihoodImprovement:
    return LikelihoodImprovement(scorer, encoder(), [WeightedTerm("raw", Raw())], StatusRules())


def probe_of(scorer: LikelihoodScorer, second: LikelihoodScorer) -> Probe:
    return Probe(
        WORLD.episodes("validation")[::3],
        attempts=2,
        env=ENV,
        reward=reward_of(scorer),
        second=reward_of(second),
        sampling=Sampling(max_new_tokens=8),
        batch_size=3,
        seed=0,
    )


def train(way: str, folder: Path, generator: PreTrainedModel) -> dict[str, Any]:
    name, *how = way.split("_")
    settings = TINY_PPO if "ppo" in how else TINY
    scorer, second = (make_scorer(m, ScorerConfig()) for m in (generator, tiny_model(3)))
    here = folder / way
    here.mkdir(exist_ok=True)
    # As a run has it: the main process keeps the log.
    sinks = [JsonlSink(here / "metrics.jsonl", here / "tables")] if ranks.is_main() else []
    callback = MonitorCallback(
        probe_of(scorer, second),
        BOUND if "stopped" in how else {},
        every_steps=1,
        patience=1,
        log=MetricLog(sinks),
        say=print,
    )
    policy = tiny_model(2)
    policy.config._name_or_path = str(folder / "policy")
    train_policy(
        policy,
        make_tokenizer(),
        ENV,
        reward_of(scorer),
        order_of(WORLD.episodes("train"), settings, seed=0),
        settings,
        output_dir=here,
        seed=0,
        callbacks=[callback],
        peft_config=LoraConfig(**LORA) if "lora" in how else None,
        deepspeed=SETTINGS[name].as_deepspeed(),
    )
    return {"probes": callback.probes, "stopped": callback.stopped and callback.stopped.name}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:], train)

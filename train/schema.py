"""Every setting of a run, typed, with its unit and its vetted default. `configs/` fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from envs.prompts import Prompts
from envs.sampling import Sampling
from rewards.status_rules import StatusRules
from rewards.window import GivesWay
from train.config.hints import did_you_mean
from train.distribution import DistributedSettings
from train.logs import LogConfig
from train.monitors.catalogue import MONITORS
from train.monitors.limits import Limits
from train.settings.checkpoints import CheckpointConfig
from train.settings.grpo import GrpoSettings
from train.settings.pool import PoolConfig
from train.settings.supervised import SupervisedSettings
from train.settings.trainer import TrainerSettings

Quantization = Literal["int8"]

# As the published chapters were sampled.
CHAPTERS = Sampling(4096, temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05)

Component = Mapping[str, Any]
"""A node with `_target_: package.module.ClassName` and the fields of that class."""


@dataclass(frozen=True)
class ModelConfig:
    """Where a model comes from: a folder or Hub id, or a random start."""

    path: str | None = None
    """Folder or Hub id of a transformers checkpoint in safetensors; empty for a random start."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    adapter: str | None = None
    """Folder or Hub id of adapters in peft's form, merged into the weights when they are loaded."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    architecture: Mapping[str, Any] = field(default_factory=dict)
    """Of a random start: `model_type` and the fields of its transformers config."""
    vocab_size: Annotated[int, Field(ge=300)] = 800
    """Of a random start: size of the byte-level BPE tokenizer that is trained on the corpus."""
    tokenizer: str | None = None
    """Of a random start: folder or Hub id of the model whose tokenizer it takes, so that models of
    several sizes speak of the same tokens; empty to train one on the corpus."""
    attn_implementation: str | None = None
    """transformers' name of the attention kernel; empty for its own choice."""

    def at(self, folder: Path) -> ModelConfig:
        """The same settings for weights that lie in `folder`."""
        return replace(self, path=str(folder), revision=None, adapter=None, tokenizer=None)

    @property
    def to_train(self) -> ModelConfig:
        """The same model in fp32: small steps would be lost in bfloat16 weights."""
        return replace(self, dtype="float32")


@dataclass(frozen=True)
class WritingPhase(SupervisedSettings):
    """One phase of teaching a generator to write; short contexts first make copying easier."""

    max_context_tokens: Annotated[int, Field(gt=0)] | None = None
    """Contexts are cut to their last so many tokens in this phase; empty for all."""
    plan_token_weight: Annotated[float, Field(ge=1)] = 1.0
    """Loss weight of the gold tokens that the plan foretells."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the data source that differ in this phase, such as shorter stretches of text."""


@dataclass(frozen=True)
class ReadingPhase(SupervisedSettings):
    """One phase of teaching a model to quote: it repeats sentences of a context in another order.

    That says nothing of what comes next; it teaches a model from scratch to find things.
    """

    headings: tuple[str, ...] = ()
    """Sections whose sentences are repeated; empty for all."""
    num_shown: Annotated[int, Field(gt=0)] | None = None
    """Sentences that such a context is cut to; empty for the whole context."""
    num_repeated: Annotated[int, Field(gt=0)] | None = None
    """Sentences to repeat; empty for all that are shown."""


@dataclass(frozen=True)
class GeneratorConfig:
    """The frozen chapter writer whose likelihood is the reward."""

    model: ModelConfig = field(default_factory=ModelConfig)
    reading: tuple[ReadingPhase, ...] = ()
    """Phases in which it learns to quote, before it learns to write."""
    training: tuple[WritingPhase, ...] = ()
    """Phases in which it learns to write, with and without plans; empty to take it as it is."""
    max_context_tokens: Annotated[int, Field(gt=0)] | None = None
    """Longer contexts lose their beginning."""
    max_plan_tokens: Annotated[int, Field(gt=0)] | None = None
    """Longer plans lose their end."""
    max_gold_tokens: Annotated[int, Field(gt=0)] | None = None
    """Longer chapters are scored up to here."""
    gives_way: GivesWay = "plan"
    """What is cut where context, plan and chapter together are longer than the model's window;
    `nothing` stops the run instead."""
    quantization: Quantization | None = None
    """Linear layers' weights in 8 bits while scoring (torchao, `pip install nextchapter[int8]`);
    what that costs in accuracy is measured and printed before training."""

    @property
    def is_trained(self) -> bool:
        """Whether the run makes its generator, and does not take `model` as it is."""
        return self.model.path is None or bool(self.reading or self.training)


@dataclass(frozen=True)
class LoraConfig:
    """peft's low-rank adapters on the policy."""

    r: Annotated[int, Field(gt=0)] = 16
    """Rank."""
    alpha: Annotated[int, Field(gt=0)] = 32
    """Scale: the update is multiplied by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str | list[str] = "all-linear"
    per_role: bool = False
    """Adapters of its own for each role of the env that learns, on weights that all roles share; a
    role of the policy that does not learn speaks without any."""


@dataclass(frozen=True)
class PolicyConfig:
    """The agent that learns."""

    model: ModelConfig | None = None
    """Empty to start from the generator's weights."""
    lora: LoraConfig | None = None
    """Empty for full fine-tuning."""


@dataclass(frozen=True)
class TermConfig:
    """One part of the reward."""

    term: Component
    """What is measured, of `rewards/terms/` or by the import path of a class of your own."""
    weight: float = 1.0
    """What a unit of it is worth; 0 logs it and pays nothing for it."""


@dataclass(frozen=True)
class RewardConfig:
    """The weighted sum that the policy maximises; `docs/rewards.md` has a table of the terms."""

    terms: Mapping[str, TermConfig]
    """By the names under which they are logged, as `reward/<name>`."""
    rules: StatusRules = field(default_factory=StatusRules)


@dataclass(frozen=True)
class ShardingConfig:
    """How a generator that is too large for one device is spread over ranks."""

    method: Literal["none", "tensor_parallel", "fsdp"] = "none"
    """`none`: each process holds the whole generator. `tensor_parallel`: the ranks of a replica
    compute each layer together. `fsdp`: they gather its weights, and each scores chapters of its
    own."""
    ranks_per_replica: Annotated[int, Field(ge=2)] | None = None
    """Neighbouring ranks that hold one generator; empty for all ranks."""


@dataclass(frozen=True)
class ScorerConfig:
    """How the frozen generator is asked for likelihoods; none of it changes what it answers."""

    kind: Literal["local", "ranks", "ray"] = "ranks"
    """Who scores: each process what it sampled, all processes together, or a pool of workers on a
    Ray cluster, so that the training processes hold no generator."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    """Of `kind: ray`."""
    max_tokens_per_batch: Annotated[int, Field(gt=0)] | None = None
    """Tokens in one forward pass of the generator; empty to find out from the device."""
    positions_per_chunk: Annotated[int, Field(gt=0)] = 256
    """Gold positions whose logits are held at once."""
    prefix_store_gb: Annotated[float, Field(ge=0)] = 0.0
    """CPU memory, in GiB, for the generator's state after contexts, so that a later epoch does not
    read them again; 0 keeps none."""
    noise_episodes: Annotated[int, Field(ge=0)] = 2
    """Training episodes on which rounding noise is measured before training; 0 for none."""
    sharding: ShardingConfig = field(default_factory=ShardingConfig)

    def __post_init__(self) -> None:
        if self.sharding.method != "none" and self.kind != "ranks":
            raise ValueError(
                "scorer.sharding: ranks that hold one generator score together, and "
                f"scorer={self.kind} has each score alone; take scorer=ranks, or "
                "scorer.sharding.method=none"
            )


@dataclass(frozen=True)
class HardwareConfig:
    """The machines that a run is meant for; `nextchapter launch plan` tells whether it fits."""

    nodes: Annotated[int, Field(gt=0)] = 1
    gpus_per_node: Annotated[int, Field(gt=0)] = 1
    gpu_memory_gb: Annotated[float, Field(gt=0)] = 80.0
    """Memory of one GPU as its maker counts it, in 10^9 bytes."""
    peak_tflops: Annotated[float, Field(gt=0)] | None = None
    """What one GPU can do at best in the precision of training, in 10^12 operations a second, for
    MFU; empty for what is known of it by its name."""
    price_per_gpu_hour: Annotated[float, Field(ge=0)] | None = None
    """In any currency, for the cost of a step; empty for none."""

    @property
    def num_gpus(self) -> int:
        return self.nodes * self.gpus_per_node


@dataclass(frozen=True)
class MonitorConfig:
    """Watching the policy on held-out episodes while it learns; `docs/monitors.md` has the list."""

    every_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps between probes; 0 for no monitors."""
    num_episodes: Annotated[int, Field(gt=0)] = 16
    """Validation episodes of the probe, always the same."""
    attempts: Annotated[int, Field(gt=1)] = 4
    """Sampled answers per episode and probe."""
    batch_size: Annotated[int, Field(gt=0)] = 64
    """Conversations that the policy answers at once."""
    patience: Annotated[int, Field(gt=0)] = 2
    """Probes in a row beyond a stopping bound that end the run."""
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """Bounds by monitor."""
    members: bool = True
    """Of a collaboration, score as well what each role planned alone, and what the last agent's
    plays come to without each role; nothing is generated for it."""
    second_generator: ModelConfig | None = None
    """A frozen generator that the policy is not trained on; empty for none."""

    def __post_init__(self) -> None:
        for name in self.limits:
            if name not in MONITORS:
                raise ValueError(
                    f"monitors.limits.{name}: no such monitor; {did_you_mean(name, MONITORS)}"
                    f"known: {', '.join(MONITORS)}"
                )


@dataclass(frozen=True)
class EvaluationConfig:
    split: Literal["train", "validation", "test", "all"] = "test"
    """Which books: those of one split, or `all` of a shelf that nothing was trained on."""
    decodings: tuple[Literal["greedy", "sampled"], ...] = ("greedy", "sampled")
    max_episodes: Annotated[int, Field(gt=0)] | None = None
    """Evaluate on the first so many episodes; empty for all."""
    batch_size: Annotated[int, Field(gt=0)] = 150
    """Conversations that an agent answers at once, and episodes that are scored at once."""
    bootstrap_samples: Annotated[int, Field(ge=100)] = 10_000
    """Resamples of the books for the 95 % interval, and draws of the test between two rows."""
    genres: str | None = None
    """CSV with the columns book and genre, for a table by genre; empty for none."""
    members: bool = True
    """Of a collaboration, score as well what each role planned alone, and what the last agent's
    plays come to without each role; nothing is generated for it."""
    second_generator: ModelConfig | None = None
    """A frozen generator that the agents were not trained on, which scores every plan as well;
    empty for none."""
    num_examples: Annotated[int, Field(ge=0)] = 3
    """Episodes shown side by side in examples.md."""
    num_written: Annotated[int, Field(ge=0)] = 3
    """Chapters that the generator writes with each agent's plan, and without one, from the best
    plan to the worst; 0 for none."""
    writing: Sampling = field(default_factory=lambda: CHAPTERS)
    """How it writes them."""


@dataclass(frozen=True)
class RunConfig:
    """One training run, from books to an evaluated agent."""

    experiment_name: str
    data: Component
    env: Component
    reward: RewardConfig
    generator: GeneratorConfig
    run_dir: str
    writers: Mapping[str, GeneratorConfig] = field(default_factory=dict)
    """Other frozen generators by name, for envs in which writers work together; how contexts, plans
    and chapters are cut is set by each."""
    seed: Annotated[int, Field(ge=0)] = 0
    prompts: Prompts = field(default_factory=Prompts)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    warm_start: SupervisedSettings | None = None
    """Supervised training of the policy on the form of a plan; empty to leave it out."""
    sft_baseline: SupervisedSettings | None = None
    """Fine-tuning of a copy of the generator on the gold chapters; empty to leave it out."""
    trainer: TrainerSettings = field(default_factory=GrpoSettings)
    curriculum: Component | None = None
    """Which episodes are played first; empty for shuffled passes over all of them."""
    max_skipped_steps: Annotated[int, Field(gt=0)] = 5
    """A step whose gradient is not finite is skipped; so many in a row end the run."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    distributed: DistributedSettings = field(default_factory=DistributedSettings)
    """How the agent's training, and that of the SFT baseline, is spread over processes."""
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    sampling: Sampling = field(default_factory=Sampling)
    """How answers are sampled in evaluation; training samples at `trainer.temperature`."""
    scorer: ScorerConfig = field(default_factory=ScorerConfig)
    monitors: MonitorConfig = field(default_factory=MonitorConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logging: LogConfig = field(default_factory=LogConfig)
    cache_dir: str = ".cache/nextchapter"
    """Where finished stages are kept for the next run."""
    threads: Annotated[int, Field(gt=0)] | None = None
    """CPU threads of torch; empty for its own choice."""
    resume: str | None = None
    """Folder of a run to go on with; set by `nextchapter train resume=runs/<run>`."""

"""Every file under configs/ composes, and what it composes to passes the schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from envs.ensemble import Ensemble
from envs.sources.storyworld import StoryWorldSource
from train.config.build import build
from train.config.validate import parse
from train.ensembles.shelf import check_ensemble
from train.preparing.settings import PrepareConfig
from train.reward_config import build_terms
from train.schema import RunConfig

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
GROUPS = (
    *("curriculum", "data", "distributed", "env", "experiment", "generator", "monitors", "policy"),
    *("prompts", "reward", "scorer", "trainer", "writers"),
)
# Of `nextchapter prepare`.
PREPARE_GROUPS = ("agent", "entailment", "wording")
# What only a user can say.
SHELF = ["data.paths=[shelf]"]
SPLITS = ["data.train=a.jsonl", "data.validation=b.jsonl", "data.test=c.jsonl"]
GIVEN = {
    "data=bookshelf": SHELF,
    "data=published": SPLITS,
    "experiment=real_books": SHELF,
    "experiment=paper_3b": SPLITS,
    "experiment=paper_7b": SPLITS,
    **{
        f"experiment=paper_7b_{where}": SPLITS
        for where in ("8gpu", "lora_8gpu", "multinode", "lora_multinode")
    },
}


def choices() -> list[str]:
    files = [file for group in GROUPS for file in sorted((CONFIGS / group).glob("*.yaml"))]
    return [f"{file.parent.name}={file.stem}" for file in files]


def test_no_config_file_is_outside_the_groups_that_are_tested() -> None:
    folders = {path.parent.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")}
    elsewhere = {".", "hydra", "hydra/sweeper", "env/parts", "writers/parts", "launch"}
    assert folders == {*elsewhere, *GROUPS, *PREPARE_GROUPS}


@pytest.mark.parametrize("choice", choices())
def test_every_choice_composes_and_passes_the_schema(
    compose_train: Callable[..., DictConfig], choice: str
) -> None:
    config = parse(RunConfig, compose_train(choice, *GIVEN.get(choice, [])))
    build(config.env, "env", prompts=config.prompts)
    if config.curriculum is not None:
        build(config.curriculum, "curriculum")
    build_terms(config.reward)


def test_every_ensemble_takes_writers_of_several_sizes(
    compose_train: Callable[..., DictConfig],
) -> None:
    # Who is weak among writers of one size is the small one among these.
    named = {
        "fusion_contrast": ["env.writers=[generator,small]"],
        "proxy_tuning": ["env.writers=[generator,north,small]"],
    }
    found = []
    for file in sorted((CONFIGS / "env").glob("*.yaml")):
        given = [f"env={file.stem}", "writers=storyworld_sizes", *named.get(file.stem, [])]
        config = parse(RunConfig, compose_train(*given))
        env = build(config.env, "env", prompts=config.prompts)
        if isinstance(env, Ensemble):
            check_ensemble(env, config.writers)
            found.append(file.stem)
    assert {"route_mlp", "cascade_quality", "fusion_mixture", "merge_linear"} <= set(found)


@pytest.mark.parametrize("group", PREPARE_GROUPS)
def test_every_choice_of_a_preparation_passes_its_schema(group: str) -> None:
    given = ["data.paths=[shelf]", "run_dir=runs/of_a_test"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for file in sorted((CONFIGS / group).glob("*.yaml")):
            more = {"endpoint": ["agent.base_url=http://127.0.0.1:1/v1", "agent.model=m"]}
            more["nli"] = ["entailment.model=m"]
            own = more.get(file.stem, [])
            parse(PrepareConfig, compose("prepare", [*given, f"{group}={file.stem}", *own]))


def test_the_default_is_the_embedded_world(compose_train: Callable[..., DictConfig]) -> None:
    config = parse(RunConfig, compose_train())
    assert config.data["_target_"] == "envs.sources.storyworld.StoryWorldSource"
    assert config.generator.model.path == "assets/storyworld"


@pytest.mark.parametrize(
    "nothing_said",
    [
        "The.",
        "The debt of Ann over the ring ends at the debt with Bob. Ann will lie.",
        "The debt of Ann over the ring ends at the mill. Ann will lie.",
        "The debt of Ann over the ring ends at the mill with Bob. Ann will.",
        "The debt of Ann over the ring ends at the mill with Bob. Ann will sing.",
        "The debt of Ann over the ring ends at the mill with Bob. Ann will lie. The ring will lie.",
    ],
)
def test_a_plan_of_the_embedded_world_has_to_name_its_parts(
    compose_train: Callable[..., DictConfig], world: StoryWorldSource, nothing_said: str
) -> None:
    config = parse(RunConfig, compose_train())
    pattern = config.prompts.plan_pattern
    assert pattern is not None
    marker = config.prompts.plan_marker
    answers = [answer.partition(f"{marker} ")[2] for _, answer in world.demonstrations(marker)]
    references = [plan for e in world.episodes("test") for plan in e.plans.values()]
    assert all(re.search(pattern, plan) for plan in answers + references)
    assert not re.search(pattern, nothing_said)


def test_the_published_prompts_have_a_task_for_every_role_of_every_collaboration(
    compose_train: Callable[..., DictConfig],
) -> None:
    tasks = parse(RunConfig, compose_train("prompts=paper")).prompts.tasks
    everything = {
        "feedback": [],
        "debate": ["env.decided_by=judge"],
        "divide_and_conquer": ["env.divides=true"],
        "augment": [],
        "agents_room": [
            "env.variant=plan_write",
            "env.orchestrator=learned",
            "env.guidance=scratchpad",
        ],
        "layered": [],
    }
    for name, more in everything.items():
        config = parse(RunConfig, compose_train("prompts=paper", f"env={name}", *more))
        env = build(config.env, "env", prompts=config.prompts)
        stems = {role.rstrip("0123456789").removesuffix("_") for role in env.most_turns}
        # The writer of this env has a task of another name.
        asked = {"augmented_writer" if name == "augment" and r == "writer" else r for r in stems}
        assert asked <= tasks.keys(), name
    assert {"debater_cooperative", "debater_competitive", "agent_again"} <= tasks.keys()


def test_members_of_a_cast_are_built_from_config(
    compose_train: Callable[..., DictConfig],
) -> None:
    endpoint = (
        "{_target_: envs.members.endpoint.Endpoint, base_url: 'http://127.0.0.1:1/v1', model: m}"
    )
    local = "{_target_: train.local_member.LocalMember, model: {path: assets/storyworld}}"
    config = parse(
        RunConfig,
        compose_train(
            "env=debate",
            f"+env.cast.members.served={endpoint}",
            f"+env.cast.members.local={local}",
            "+env.cast.roles={debater_2: served, judge: local}",
            "env.decided_by=judge",
        ),
    )
    env = build(config.env, "env", prompts=config.prompts)
    assert env.cast.members["served"].model == "m"
    assert env.cast.members["local"].model.path == "assets/storyworld"
    assert env.most_trained_turns == 2 * 2

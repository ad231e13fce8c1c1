"""A real Ray cluster of two nodes: workers and nodes die, nothing is lost, nothing counts twice."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Nats per token. Another batch rounds otherwise; measured on these models: none at all.
TOLERANCE = 2e-5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'nextchapter[ray]'"
    ),
]

Seen = dict[str, Any]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Seen:
    """What happened on the cluster (`ray_pool.py`)."""
    folder, here = tmp_path_factory.mktemp("pool"), Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{repository}:{here}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(here / "ray_pool.py"), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    # Written when all is over. What a thread of Ray's asks after the shutdown ends the process with
    # another status, now and then.
    assert (folder / "seen.json").is_file(), done.stderr[-3000:]
    return json.loads((folder / "seen.json").read_text())


@pytest.mark.parametrize(
    "act", ["worker_killed", "node_killed", "one_left", "joined", "joined_two"]
)
def test_whoever_dies_each_group_has_its_own_answer_once(seen: Seen, act: str) -> None:
    assert seen[act]["wrong"] == 0
    assert seen[act]["answers"] == seen[act]["groups"]


def test_a_lost_worker_is_started_again_and_works(seen: Seen) -> None:
    before, after = seen["worker_killed"]["processes"], seen["again_two"]["processes"]
    assert len(after) == 2
    assert before != after


def test_without_the_node_the_other_works_alone_until_one_joins(seen: Seen) -> None:
    assert len(seen["node_killed"]["nodes"]) == 2
    assert len(seen["one_left"]["nodes"]) == 1
    assert len(seen["joined"]["nodes"]) == 2
    assert set(seen["joined"]["nodes"]) != set(seen["node_killed"]["nodes"])


def test_two_workers_are_faster_than_one_and_so_they_are_again_when_one_joins(seen: Seen) -> None:
    two, one, again = (seen[act]["groups_per_s"] for act in ("two", "one_left", "joined_two"))
    print(
        f"groups a second that wait 0.15 s each: {two:.1f} by two workers, {one:.1f} by the one "
        f"that is left, {again:.1f} when another one joined"
    )
    assert two > 1.1 * one
    assert again > 1.1 * one


def test_the_pool_gives_the_numbers_of_one_process(seen: Seen) -> None:
    for found, expected in zip(seen["pool"], seen["process"], strict=True):
        assert found == pytest.approx(expected, abs=TOLERANCE)
    for found, expected in zip(seen["pool_oracle"], seen["process_oracle"], strict=True):
        assert found == pytest.approx(expected, abs=TOLERANCE)


def test_numbers_do_not_depend_on_the_order_of_groups_or_on_the_worker(seen: Seen) -> None:
    assert seen["pool"] == seen["pool_reversed"]


def test_what_a_worker_refuses_is_said_by_its_episode(seen: Seen) -> None:
    assert seen["too_long"].startswith("ValueError: episode book/long: 2001 tokens exceed")


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("cannot_load", "RefusedWorker: worker 0 cannot score: ValueError: generator.model.path"),
        ("cannot_load_at_start", "RefusedWorker: worker 0 cannot score: ValueError: generator."),
        ("no_room", "LostWorker: scorer: none of the 1 workers of the pool has answered"),
        ("no_room_at_start", "LostWorker: scorer: no worker came up within 1 s"),
        ("no_token", "there is no token for the cluster; set RAY_AUTH_TOKEN"),
        ("wrong_token", "does not accept this token"),
        ("no_cluster", "no cluster answers at 127.0.0.1:1"),
        ("no_address", "'somewhere' is not host:port"),
        ("open_cluster", "would let anybody run code on the cluster"),
    ],
)
def test_each_way_in_which_a_pool_cannot_work_is_one_line(seen: Seen, case: str, said: str) -> None:
    assert said in seen[case]


def test_ray_leaves_the_signal_to_the_run(seen: Seen) -> None:
    assert seen["keeps_sigterm"]

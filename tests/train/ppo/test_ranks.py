"""PPO on two real processes: plain DDP, ZeRO-2 and ZeRO-3 learn what one process learns."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
SCRIPT = Path(__file__).with_name("ppo_ranks.py")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(mode: str, folder: Path, num_processes: int) -> list[dict[str, float]]:
    """What the processes logged."""
    shared = {
        **os.environ,
        "WORLD_SIZE": str(num_processes),
        "LOCAL_WORLD_SIZE": str(num_processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    if num_processes == 1:
        del shared["WORLD_SIZE"]
    errors = [folder / f"{mode}-{rank}.err" for rank in range(num_processes)]
    processes = []
    for rank, path in enumerate(errors):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if num_processes > 1 else {}
        with path.open("w") as file:
            command = [sys.executable, str(SCRIPT), mode, str(folder)]
            processes.append(
                subprocess.Popen(command, env={**shared, **ranks}, stdout=file, stderr=file)
            )
    codes = [process.wait(timeout=500) for process in processes]
    assert codes == [0] * num_processes, "\n".join(path.read_text()[-3000:] for path in errors)
    return json.loads((folder / f"{mode}.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, float]]]:
    folder = tmp_path_factory.mktemp("alone")
    return folder, start("alone", folder, 1)


@pytest.mark.parametrize("mode", ["ddp", "zero2", "zero3"])
def test_two_processes_learn_what_one_learns(
    alone: tuple[Path, list[dict[str, float]]], tmp_path: Path, mode: str
) -> None:
    folder, expected = alone
    found = start(mode, tmp_path, 2)
    assert len(found) == len(expected) == 4
    for one, two in zip(expected, found, strict=True):
        for name in ("loss", "value_loss", "reward", "explained_variance"):
            if name in one:
                assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4), name
    critic_of_one = load_file(folder / "checkpoint-4" / "critic.safetensors")
    critic_of_two = load_file(tmp_path / "checkpoint-4" / "critic.safetensors")
    assert set(critic_of_one) == set(critic_of_two)
    for name, weight in critic_of_one.items():
        torch.testing.assert_close(critic_of_two[name], weight, atol=2e-4, rtol=1e-3)
    AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-4")

    # A crash after the second step, in the middle of nothing: the last two steps come out again.
    shutil.rmtree(tmp_path / "checkpoint-4")
    resumed = start(f"{mode}resumed", tmp_path, 2)
    assert [log["loss"] for log in resumed] == pytest.approx(
        [log["loss"] for log in found[2:]], rel=1e-5
    )


def test_adapters_learn_under_zero3(tmp_path: Path) -> None:
    logs = start("zero3lora", tmp_path, 2)
    assert len(logs) == 4
    adapters = load_file(tmp_path / "checkpoint-4" / "adapter_model.safetensors")
    assert any(weight.abs().max() > 0 for name, weight in adapters.items() if "lora_B" in name)
    critic = load_file(tmp_path / "checkpoint-4" / "critic.safetensors")
    assert set(critic) == {"head.weight", "head.bias"}


def test_two_processes_teach_each_role_what_one_process_teaches_it(tmp_path: Path) -> None:
    logs, ends = [], []
    for num_processes, mode in ((1, "alone_roles"), (2, "ddp_roles")):
        folder = tmp_path / mode
        folder.mkdir()
        logs.append(start(mode, folder, num_processes))
        places = sorted((folder / "checkpoint-2" / "roles").glob("*/adapter_model.safetensors"))
        assert [place.parent.name for place in places] == ["drafter", "verifier"]
        ends.append([load_file(place) for place in places])
    # The steps of the first rollout; what rounding made of the adapters then says other words.
    for one, two in list(zip(*logs, strict=True))[:2]:
        for name in ("loss", "value_loss", "policy_loss", "reward", "approx_kl", "grad_norm"):
            if name in one:
                assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4), name
    for one, two in zip(*ends, strict=True):
        assert any(weight.abs().max() > 0 for name, weight in one.items() if "lora_B" in name)
        for name, weight in one.items():
            torch.testing.assert_close(two[name], weight, atol=2e-4, rtol=1e-3)

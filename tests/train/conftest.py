"""The smallest thing that a trainer trains, for what holds of every trainer, and real processes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments


class Line(nn.Module):
    """y = weight · x, learned from points; `padding` only takes room in a checkpoint."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.padding = nn.Parameter(torch.zeros(padding), requires_grad=False)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        # Noise makes the end depend on the state of the random numbers.
        return {"loss": ((self.weight * x + 0.1 * torch.randn_like(x) - y) ** 2).mean()}


@pytest.fixture
def fit_line() -> Callable[..., float]:
    """Trains a line for six steps of two points each; gives the weight that it ends with.

    `spoil` says by step number whether the gradient of that step is NaN.
    """

    def fit(
        output_dir: Path,
        callbacks: Sequence[TrainerCallback] = (),
        resume_from: Path | None = None,
        save_steps: int = 2,
        padding: int = 1,
        spoil: Callable[[int], bool] = lambda step: False,
        max_steps: int = 6,
    ) -> float:
        torch.manual_seed(0)
        line = Line(padding)
        steps = 0 if resume_from is None else int(resume_from.name.rsplit("-", 1)[1])

        def gradient(found: Tensor) -> Tensor:
            nonlocal steps
            steps += 1
            return found * torch.nan if spoil(steps) else found

        line.weight.register_hook(gradient)
        arguments = TrainingArguments(
            output_dir=str(output_dir),
            max_steps=max_steps,
            per_device_train_batch_size=2,
            learning_rate=0.1,
            save_steps=save_steps,
            logging_steps=1,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        points: Any = [{"x": torch.tensor(float(x)), "y": torch.tensor(2.0 * x)} for x in range(8)]
        trainer = Trainer(
            model=line, args=arguments, train_dataset=points, callbacks=list(callbacks)
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
        return line.weight.item()

    return fit


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real headless browser; tests that want one are skipped where there is none."""
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if module.EXECUTABLE is None:
        pytest.skip("there is no Chromium on this machine")
    opened = module.Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def run_ranks() -> Callable[..., list[dict[str, Any]]]:
    """Runs a script of two processes on `<folder> <argument>…`; gives what each rank wrote."""

    def run(script: Path, folder: Path, *arguments: str) -> list[dict[str, Any]]:
        # On a machine with GPUs too: these tests are about processes, not about devices.
        environment = os.environ | {
            "DS_ACCELERATOR": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            [sys.executable, script, folder, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        files = [folder / f"{rank}.json" for rank in range(2)]
        assert all(file.exists() for file in files), done.stderr[-3000:]
        return [json.loads(file.read_text()) for file in files]

    return run

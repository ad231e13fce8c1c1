"""One of two real processes that train, save and go on together: `python saving_ranks.py <folder>`.

Each writes what it saw to `<folder>/<rank>.json`, for test_saving_ranks.py to read.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from train.checkpoints import Checkpoints
from train.preemption import StopSignals
from train.saving import CheckpointKeeper
from train.settings.checkpoints import CheckpointConfig


class Line(nn.Module):
    """y = weight · x, with noise that every process draws for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": ((self.weight * x + 0.1 * torch.randn_like(x) - y) ** 2).mean()}


class SignalTo(TrainerCallback):
    """A signal that comes to one process, at the end of a step."""

    def __init__(self, signals: StopSignals, rank: int, step: int) -> None:
        self.signals, self.rank, self.step = signals, rank, step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if (args.process_index, state.global_step) == (self.rank, self.step):
            self.signals.received = "SIGTERM"


def fit(checkpoints: Checkpoints, signal_to: tuple[int, int]) -> dict[str, Any]:
    last = checkpoints.newest()
    signals, line = StopSignals(), Line()
    arguments = TrainingArguments(
        output_dir=str(checkpoints.staging_dir),
        max_steps=6,
        per_device_train_batch_size=2,
        learning_rate=0.1,
        save_steps=2,
        seed=5,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    points: Any = [{"x": torch.tensor(float(x)), "y": torch.tensor(2.0 * x)} for x in range(16)]
    keeper = CheckpointKeeper(checkpoints, signals, {})
    callbacks = [SignalTo(signals, *signal_to), keeper]
    trainer = Trainer(model=line, args=arguments, train_dataset=points, callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    # Apart from each other, or equal random numbers would hide that one of them was lost.
    torch.manual_seed(arguments.process_index)
    trainer.train(resume_from_checkpoint=str(last.path) if last else None)
    return {
        "began_at": last.step if last else 0,
        "weight": line.weight.item(),
        "received": signals.received,
        "steps": trainer.state.global_step,
    }


def main(folder: Path) -> None:
    state = PartialState(cpu=True)
    said: list[str] = []
    seen: dict[str, Any] = {"said": said}

    def checkpoints(name: str, **made_from: str) -> Checkpoints:
        return Checkpoints(folder / name, CheckpointConfig(), made_from, said.append)

    nobody = (-1, -1)
    seen["whole"] = fit(checkpoints("whole"), nobody)
    seen["stopped"] = fit(checkpoints("stopped"), (1, 3))
    state.wait_for_everyone()
    if state.is_main_process:
        shutil.copytree(folder / "stopped", folder / "damaged")
        (folder / "damaged" / "checkpoint-3" / "rng_state_1.pth").write_bytes(b"noise")
    state.wait_for_everyone()
    seen["resumed"] = fit(checkpoints("stopped"), nobody)
    seen["damaged"] = fit(checkpoints("damaged"), nobody)
    try:
        checkpoints("whole", trainer="another").newest()
    except ValueError as error:
        seen["refused"] = str(error)
    (folder / f"{state.process_index}.json").write_text(json.dumps(seen))
    state.wait_for_everyone()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

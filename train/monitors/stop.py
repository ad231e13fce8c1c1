"""How a run ends that a monitor stopped."""

from __future__ import annotations

from train.monitors.limits import Alarm
from train.run_folder import RunFolder


class StoppedByMonitor(Exception):
    """The run is over before its end, with a checkpoint; no mistake was made in asking for it."""

    @classmethod
    def because(cls, alarm: Alarm, folder: RunFolder, step: int) -> StoppedByMonitor:
        """`step` is that of the checkpoint that it left."""
        return cls(
            f"stopped by {alarm.line}. The state after step {step} is kept in "
            f"{folder.checkpoints_dir}; to go on all the same: "
            f"nextchapter train resume={folder.path} "
            f"monitors.limits.{alarm.name}.{alarm.bound}=null"
        )

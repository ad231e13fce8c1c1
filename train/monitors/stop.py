"""How a run ends that a monitor stopped."""

from __future__ import annotations

from train.monitors.limits import Alarm
from train.run_folder import RunFolder


class StoppedByMonitor(Exception):
    """The run is over before its end, with a checkpoint; no mistake was made in asking for it."""

    @classmethod
    def because(cls, alarm: Alarm, folder: RunFolder) -> StoppedByMonitor:
        checkpoint = folder.last_checkpoint() or folder.checkpoints_dir
        return cls(
            f"stopped by {alarm.line}. The state is kept in {checkpoint}; to go on all the same: "
            f"nextchapter train resume={folder.path} "
            f"monitors.limits.{alarm.name}.{alarm.bound}=null"
        )

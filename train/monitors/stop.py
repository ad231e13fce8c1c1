"""How a run ends that a monitor stopped."""

from __future__ import annotations

from pathlib import Path

from train.monitors.limits import Alarm


class StoppedByMonitor(Exception):
    """The run is over before its end, with a checkpoint; no mistake was made in asking for it."""

    @classmethod
    def because(cls, alarm: Alarm, run: Path, checkpoint: Path) -> StoppedByMonitor:
        return cls(
            f"stopped by {alarm.line}. The state is kept in {checkpoint}; to go on all the same: "
            f"nextchapter train resume={run} monitors.limits.{alarm.name}.{alarm.bound}=null"
        )

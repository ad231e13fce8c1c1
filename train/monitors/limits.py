"""Where a monitor's value is out of bounds, and when that ends a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from train.monitors.catalogue import MONITORS


@dataclass(frozen=True)
class Limits:
    """Bounds of one monitor, each empty for none."""

    warn_below: float | None = None
    warn_above: float | None = None
    stop_below: float | None = None
    stop_above: float | None = None

    def exceeded(self, value: float) -> str | None:
        """The name of the bound that the value is beyond, a stopping one first; None for none."""
        for name in ("stop_below", "stop_above", "warn_below", "warn_above"):
            bound = getattr(self, name)
            is_below = name.endswith("below")
            if bound is not None and (value < bound if is_below else value > bound):
                return name
        return None

    def verdict(self, value: float) -> str:
        """`stop`, `warn` or `ok`."""
        bound = self.exceeded(value)
        return "ok" if bound is None else bound.partition("_")[0]


@dataclass(frozen=True)
class Alarm:
    """A monitor beyond one of its bounds, and whether that ends the run."""

    name: str
    value: float
    bound: str
    limit: float
    is_stop: bool

    @property
    def line(self) -> str:
        """What is measured, how far it is out, and the remedy."""
        monitor = MONITORS[self.name]
        return (
            f"monitor {self.name} = {self.value:.3g}, {self.bound.partition('_')[2]} "
            f"{self.limit:g} ({monitor.meaning}); {monitor.remedy}"
        )


def alarms(
    probes: Sequence[Mapping[str, float]], limits: Mapping[str, Limits], patience: int
) -> list[Alarm]:
    """The bounds that the last probe is beyond, those that end the run first.

    A run ends when a monitor has been beyond a stopping bound in `patience` probes in a row; a
    probe that could not measure it breaks the row.
    """
    found = []
    for name, value in (probes[-1] if probes else {}).items():
        bounds = limits.get(name, Limits())
        if (bound := bounds.exceeded(value)) is not None:
            recent = [
                name in probe and bounds.verdict(probe[name]) == "stop"
                for probe in probes[-patience:]
            ]
            is_stop = len(recent) == patience and all(recent)
            found.append(Alarm(name, value, bound, getattr(bounds, bound), is_stop))
    return sorted(found, key=lambda alarm: not alarm.is_stop)

"""Where measurements go: a JSONL file always, TensorBoard and Weights & Biases where wanted."""

from __future__ import annotations

import json
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from train import ranks
from train.files import append_line, write_text
from train.run_folder import RunFolder, redacted

_logger = logging.getLogger(__name__)

Metrics = Mapping[str, Any]
Rows = Sequence[Sequence[Any]]

# What a run resumes from that was stopped before its first checkpoint: all is measured again.
BEFORE_ANY_STEP = -1


@dataclass(frozen=True)
class LogConfig:
    """Which logs a run keeps beside `metrics.jsonl`."""

    # Write TensorBoard files.
    tensorboard: bool = True
    # `offline` writes files that `wandb sync` uploads later; `online` uploads at once.
    wandb: Literal["offline", "online", "disabled"] = "offline"
    # The Weights & Biases project that the run belongs to.
    wandb_project: str = "nextchapter"


class MetricSink(Protocol):
    """Something that keeps measurements. Steps never go down, except where a run is resumed."""

    def log(self, step: int, metrics: Metrics) -> None: ...
    def table(self, step: int, name: str, columns: Sequence[str], rows: Rows) -> None: ...
    def close(self) -> None: ...


class MetricLog:
    """Hands every measurement to all sinks."""

    def __init__(self, sinks: Sequence[MetricSink]) -> None:
        self._sinks = tuple(sinks)

    @classmethod
    def open(
        cls,
        folder: RunFolder,
        config: LogConfig,
        settings: Mapping[str, Any] | None = None,
        resumed_step: int | None = None,
    ) -> MetricLog:
        """The logs of a run. With `resumed_step`, what was logged after that step is dropped.

        `settings` is the run's config, which W&B shows beside the curves. Of several processes the
        main one keeps logs.
        """
        if not ranks.is_main():
            return cls([])
        sinks: list[MetricSink] = [
            JsonlSink(folder.metrics_path, folder.tables_dir, resumed_step=resumed_step)
        ]
        if config.tensorboard:
            sinks.append(TensorBoardSink(folder.tensorboard_dir, resumed_step=resumed_step))
        if config.wandb != "disabled":
            sinks.append(WandbSink(folder.path, config.wandb, config.wandb_project, settings or {}))
        return cls(sinks)

    def log(self, step: int, metrics: Metrics) -> None:
        for sink in self._sinks:
            sink.log(step, metrics)

    def table(self, step: int, name: str, columns: Sequence[str], rows: Rows) -> None:
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(f"table {name}: {len(columns)} columns, but a row of {len(row)}")
        for sink in self._sinks:
            sink.table(step, name, columns, rows)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class JsonlSink:
    """One line per step in `metrics.jsonl`, one line per row in `tables/<name>.jsonl`."""

    def __init__(self, path: Path, tables_dir: Path, resumed_step: int | None = None) -> None:
        self._path = path
        self._tables_dir = tables_dir
        for file in (path, *tables_dir.glob("*.jsonl")):
            if file.exists():
                _keep_until(file, resumed_step)

    def log(self, step: int, metrics: Metrics) -> None:
        numbers = {name: _finite(number(value)) for name, value in metrics.items()}
        _append(self._path, [{"step": step, "time_s": round(time.time(), 3), **numbers}])

    def table(self, step: int, name: str, columns: Sequence[str], rows: Rows) -> None:
        self._tables_dir.mkdir(exist_ok=True)
        records = [
            {"step": step, **{c: _cell(v) for c, v in zip(columns, row, strict=True)}}
            for row in rows
        ]
        _append(self._tables_dir / f"{name.replace('/', '_')}.jsonl", records)

    def close(self) -> None:
        pass


class TensorBoardSink:
    """TensorBoard's event files."""

    def __init__(self, folder: Path, resumed_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge_step = None if resumed_step is None else resumed_step + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def log(self, step: int, metrics: Metrics) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, number(value), step)
        self._writer.flush()

    def table(self, step: int, name: str, columns: Sequence[str], rows: Rows) -> None:
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join("| " + " | ".join(map(_markdown_cell, line)) + " |" for line in lines)
        self._writer.add_text(name, text, step)

    def close(self) -> None:
        self._writer.close()


class WandbSink:
    """Weights & Biases. A run goes on without it where it cannot be reached."""

    def __init__(
        self,
        folder: Path,
        mode: Literal["offline", "online"],
        project: str,
        settings: Mapping[str, Any],
        start: Callable[..., Any] | None = None,
    ) -> None:
        """`start` takes the place of `wandb.init`."""
        self._run: Any = None
        try:
            self._run = (start or _start_wandb)(folder, mode, project, redacted(settings))
        except Exception as error:
            # Whatever it is, hours of training matter more than one of three logs.
            self._give_up("could not be started", error)

    def log(self, step: int, metrics: Metrics) -> None:
        numbers = {name: number(value) for name, value in metrics.items()}
        self._send(step, lambda: numbers)

    def table(self, step: int, name: str, columns: Sequence[str], rows: Rows) -> None:
        def content() -> dict[str, Any]:
            import wandb

            cells: list[Any] = [[_cell(value) for value in row] for row in rows]
            return {name: wandb.Table(columns=list(columns), data=cells)}

        self._send(step, content)

    def close(self) -> None:
        if self._run is not None:
            try:
                self._run.finish()
            except Exception as error:
                self._give_up("could not be finished", error)

    def _send(self, step: int, content: Callable[[], dict[str, Any]]) -> None:
        if self._run is None:
            return
        try:
            # Its own step counter cannot go back, which a resumed run has to.
            self._run.log({"step": step, **content()})
        except Exception as error:
            self._give_up("stopped", error)

    def _give_up(self, what: str, error: Exception) -> None:
        self._run = None
        reason = " ".join(str(error).split())[:200]
        _logger.warning("Weights & Biases %s (%s); the run goes on without it", what, reason)


def _start_wandb(folder: Path, mode: str, project: str, settings: Any) -> Any:
    import wandb

    is_online = mode == "online"
    # A resumed run goes on under the id that it began with.
    id_path = folder / "wandb" / "run_id.txt"
    id_path.parent.mkdir(exist_ok=True)
    if not id_path.exists():
        write_text(id_path, secrets.token_hex(4))
    run = wandb.init(
        project=project,
        id=id_path.read_text(encoding="utf-8"),
        name="/".join(folder.absolute().parts[-2:]),
        dir=str(folder),
        mode="online" if is_online else "offline",
        resume="allow" if is_online else None,
        config=settings,
        settings=wandb.Settings(
            silent=True,
            console="off",
            x_disable_stats=True,
            init_timeout=30,
            # Without it a run whose connection was lost would wait at its end for good.
            finish_timeout=120,
            finish_timeout_raises=True,
        ),
    )
    run.define_metric("*", step_metric="step")
    return run


def number(value: Any) -> float | int:
    """A plain number from a Python, NumPy or torch scalar."""
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, bool):
        return int(plain)
    if not isinstance(plain, int | float):
        raise ValueError(f"a metric is a number; got {value!r}. Log text as a table")
    return plain


def _finite(value: float | int) -> float | int | None:
    """JSON has no infinities and no NaN; null says that there was no number."""
    return value if math.isfinite(value) else None


def _cell(value: Any) -> Any:
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float):
        return _finite(plain)
    return plain if plain is None or isinstance(plain, bool | int) else str(plain)


def _markdown_cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _append(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    if records:
        append_line(path, "\n".join(json.dumps(record, ensure_ascii=False) for record in records))


def _keep_until(path: Path, resumed_step: int | None) -> None:
    """Drops the lines after `resumed_step`, and a last line that a killed run left half-written."""
    kept = []
    *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for line in lines:
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            continue
        if resumed_step is None or step <= resumed_step:
            kept.append(line + "\n")
    write_text(path, "".join(kept))

"""A launched job as its run folder knows it: `job/job.json`, its script, its attempts and logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from train.config.validate import check
from train.files import write_json

FOLDER = "job"


@dataclass(frozen=True)
class Job:
    """What a node has to know to play its part, and a user to follow the job.

    `submission` tells one submission of a run from the next; `id` is the scheduler's name for it.
    """

    run: str
    backend: str
    submission: str
    arguments: tuple[str, ...]
    """What comes after `nextchapter`."""
    nodes: int
    processes_per_node: int
    python: str
    max_restarts: int
    hang_after_s: float
    rendezvous_timeout_s: float
    submitted_at: str
    id: str | None = None
    place: Mapping[str, str] = field(default_factory=dict)
    """What is needed to ask the scheduler again, such as a namespace or an address."""

    @property
    def num_processes(self) -> int:
        return self.nodes * self.processes_per_node

    @property
    def folder(self) -> JobFolder:
        return JobFolder(Path(self.run))

    @property
    def script_path(self) -> Path:
        """What is handed to the scheduler."""
        name = "job.yaml" if self.backend == "kubernetes" else "job.sh"
        return self.folder.path / name

    def with_id(self, job_id: str) -> Job:
        return replace(self, id=job_id)


@dataclass(frozen=True)
class JobFolder:
    """`runs/<run>/job`, which launching alone writes."""

    run: Path

    @property
    def path(self) -> Path:
        return self.run / FOLDER

    @property
    def record_path(self) -> Path:
        return self.path / "job.json"

    @property
    def scheduler_log_path(self) -> Path:
        """What the script itself says: the verdict of every attempt, the scheduler's messages."""
        return self.path / "job.log"

    def scheduler_log(self) -> str:
        path = self.scheduler_log_path
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def attempts_path(self) -> Path:
        return self.path / "attempts.jsonl"

    @property
    def cancelled_path(self) -> Path:
        """Names the submission that its user has cancelled, so that nothing queues it again."""
        return self.path / "cancelled"

    def is_cancelled(self, job: Job) -> bool:
        path = self.cancelled_path
        return path.exists() and path.read_text(encoding="utf-8") == job.submission

    def attempt_dir(self, attempt: str) -> Path:
        return self.path / "attempts" / attempt

    def write(self, job: Job) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.record_path, asdict(job))

    def read(self) -> Job:
        """
        Raises:
            FileNotFoundError, ValueError: the run was not launched, or its record is damaged.
        """
        if not self.record_path.is_file():
            raise FileNotFoundError(
                f"{self.run}: was not launched as a job ({FOLDER}/job.json is missing); launch it "
                f"with nextchapter launch train resume={self.run}"
            )
        try:
            content: Any = json.loads(self.record_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.record_path}: is damaged; launch the run again") from error
        return check(Job, content, str(self.record_path))

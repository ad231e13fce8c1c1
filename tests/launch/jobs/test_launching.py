"""`nextchapter launch train`, as a user runs it, as far as no cluster is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.cli import main
from launch.jobs.slurm import _gpus


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    # No scheduler, and no GPU.
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_dry_run_shows_the_script_and_the_command_and_leaves_no_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = (
        *("experiment=paper_7b_multinode", "data.train=a", "data.validation=b", "data.test=c"),
        *("launch=slurm", "launch.partition=gpu", "launch.account=books", "launch.time=1-00:00:00"),
        *("launch.modules=[cuda/12.8]", "+launch.container={image: books.sqsh, mounts: ['/a:/a']}"),
        *("launch.extra=['--exclusive']", "+launch.environment.NCCL_DEBUG=WARN", "run_dir=runs/r"),
        "launch.cpus_per_process=4",
    )
    settings = tuple(s.replace("+launch.container=", "launch.container=") for s in settings)
    assert main(["launch", "train", *settings, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for line in (
        *("#SBATCH --nodes=4", "#SBATCH --gpus-per-node=8", "#SBATCH --partition=gpu"),
        *("#SBATCH --account=books", "#SBATCH --time=1-00:00:00", "#SBATCH --cpus-per-task=32"),
        *("#SBATCH --signal=USR1@300", "#SBATCH --requeue", "#SBATCH --exclusive"),
        *("module load cuda/12.8", "export NCCL_DEBUG=WARN", "export HF_HUB_OFFLINE=1"),
        f"sbatch --parsable {tmp_path}/runs/r/job/job.sh",
    ):
        assert line in shown.splitlines()
    assert "--container-image=books.sqsh --container-mounts=/a:/a" in shown
    assert "-P -m launch.jobs.node" in shown
    (step,) = [line for line in shown.splitlines() if line.startswith("srun --nodes=4 ")]
    # srun does not take it over from sbatch, and would bind 8 processes to one CPU.
    assert "--cpus-per-task=32" in step.split()
    (verdict,) = [line for line in shown.splitlines() if "-m launch.jobs.verdict" in line]
    container = "--container-image=books.sqsh --container-mounts=/a:/a"
    assert verdict.startswith(f"srun --nodes=1 --ntasks=1 {container} ")
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_leaves_the_folders_that_were_there_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for folder in ("out/new/far/r", "runs/r", f"{tmp_path}/out/r"):
        assert main(["launch", "train", "launch=slurm", f"run_dir={folder}", "--dry-run"]) == 0
        assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


@pytest.mark.parametrize(("run_dir", "key"), [("mount/r", "working folder"), ("r", "run_dir")])
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_what_no_pod_would_find_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, run_dir: str, key: str, options: list[str]
) -> None:
    pytest.importorskip("kubeflow_trainer_api", reason="needs nextchapter[kubernetes]")
    mount = tmp_path / "mount"
    where = ("launch.volume_claim=books", f"launch.mount={mount}", f"run_dir={run_dir}")
    assert main(["launch", "train", "launch=kubernetes", *where, *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f" {key}: {tmp_path}" in line
    assert f"is outside of launch.mount={mount}, where no pod would find it" in line
    assert list(tmp_path.iterdir()) == []


def test_a_value_from_a_config_cannot_become_a_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "runs/a b'; touch owned; '"
    argv = ["launch", "train", "launch=local", f'run_dir="{name}"', "--dry-run"]
    assert main(argv) == 0
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith("run=")]
    assert line.count("'\"'\"'") == 2 and line.endswith("; '\"'\"''")


def test_slurm_takes_a_per_cent_sign_in_a_path_as_it_stands(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["launch", "train", "launch=slurm", "run_dir=runs/5%j", "--dry-run"]) == 0
    assert f"#SBATCH --output={tmp_path}/runs/5%%j/job/job.log" in capsys.readouterr().out


def test_a_run_whose_job_sbatch_refuses_is_taken_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, body in (
        ("sinfo", "echo 'gpu|1|gpu:8'"),
        ("sbatch", "echo 'sbatch: error: no such account' >&2; exit 1"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    argv = ["launch", "train", "launch=slurm", "launch.offline=false", "run_dir=runs/r"]
    assert main(argv) == 2
    assert "sbatch refused the job (no such account)" in capsys.readouterr().err
    assert files(here) == []


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (0, "r/job/job.json: "),
        # Its id is nowhere else.
        (1, "could not be cancelled (launch: scancel refused (no answer)); cancel it with the"),
    ],
)
def test_a_job_whose_record_cannot_be_written_is_cancelled_and_taken_back(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: int,
    says: str,
) -> None:
    programs, here = tmp_path / "programs", tmp_path / "here"
    programs.mkdir()
    here.mkdir()
    for name, body in (
        ("sinfo", "echo 'gpu|1|gpu:8'"),
        # From here on there is no room for a file in place of job.json.
        ("sbatch", f"rm '{here}/r/job/job.json'; mkdir -p '{here}/r/job/job.json/full'; echo 17"),
        (
            "scancel",
            f"(echo $1; cat '{here}/r/job/cancelled') > '{tmp_path}/cancelled'; "
            f"echo no answer >&2; exit {status}",
        ),
    ):
        (programs / name).write_text(f"#!/bin/sh\nPATH=/bin:/usr/bin\n{body}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.chdir(here)
    assert main(["launch", "train", "launch=slurm", "launch.offline=false", "run_dir=r"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "r/job/job.json: " in line and says in line
    assert ("slurm job 17 has no record" in line) == bool(status)
    job_id, submission = (tmp_path / "cancelled").read_text().splitlines()
    # The mark that keeps its script from queueing it again came first.
    assert job_id == "17" and len(submission) == 12
    assert files(here) == []


def test_a_second_job_in_the_run_of_pods_that_wait_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("kubeflow_trainer_api", reason="needs nextchapter[kubernetes]")
    programs = tmp_path / "programs"
    programs.mkdir()
    program = programs / "kubectl"
    program.write_text('#!/bin/sh\ncase "$1 $2" in "get trainjob") echo "{}" ;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    where = ("launch=kubernetes", "launch.volume_claim=books", f"launch.mount={tmp_path}")
    assert main(["launch", "train", *where, "run_dir=run"]) == 0
    assert "kubernetes job nextchapter-run-" in capsys.readouterr().out
    submitted = (tmp_path / "run" / "job" / "job.json").read_text()
    assert main(["launch", "train", *where, "resume=run"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "is Created in this run; wait for its end, or nextchapter launch cancel" in line
    assert (tmp_path / "run" / "job" / "job.json").read_text() == submitted


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["launch=slurm"], "launch: sinfo is not on this machine, and launch=slurm needs it"),
        (["launch=slrum"], "launch=slrum: no such option; did you mean 'slurm'?"),
        (["launch.partition=gpu"], "launch.partition: no such setting"),
        (["launch.max_restarts=-1"], "launch.max_restarts: should be greater than or equal to 0"),
        (["nodes=2"], "hardware.nodes: launch=local is one machine; got 2"),
        (
            ["launch.device=gpu", "gpus_per_node=2"],
            "hardware.gpus_per_node: 2 asked for, and this machine has 0",
        ),
        (
            ["launch=slurm", "launch.extra=['--comment=a\ntouch owned']", "--dry-run"],
            "launch: '--comment=a\\ntouch owned' has a control character; leave it out",
        ),
        (
            ["run_dir='runs/a\ntouch owned'", "--dry-run"],
            "touch owned' has a control character; leave it out",
        ),
        (
            ["+launch.environment.HF_TOKEN=hf_1"],
            "launch.environment.HF_TOKEN: a secret would stand in the job's files",
        ),
        (
            ["launch.offline=true", "generator.model.path=no/model"],
            "generator.model.path: no/model is not in the cache; run nextchapter launch prefetch",
        ),
        (["launch=kubernetes"], "launch.volume_claim: names the claim"),
        (["launch=kubernetes", "--dry-run"], "launch.volume_claim: names the claim"),
        (["trainer.max_steps=0"], "trainer.max_steps: should be greater than 0"),
    ],
)
def test_what_cannot_run_is_one_line_and_leaves_no_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, settings: list[str], says: str
) -> None:
    if "launch=kubernetes" in settings:
        pytest.importorskip("kubeflow_trainer_api", reason="needs nextchapter[kubernetes]")
    assert main(["launch", "train", *settings]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert files(tmp_path) == []


@pytest.mark.parametrize("kind", ["status", "logs", "cancel"])
def test_a_run_that_was_not_launched_is_said_so(
    capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    assert main(["launch", kind, "runs/none"]) == 2
    assert "runs/none: was not launched as a job" in capsys.readouterr().err


def test_what_kubectl_logs_of_its_tries_is_left_out_of_the_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("kubeflow_trainer_api", reason="needs nextchapter[kubernetes]")
    program = tmp_path / "kubectl"
    tries = "E1129 09:48:11.263645 18745 memcache.go:265] no answer\n" * 2
    program.write_text(f"#!/bin/sh\necho '{tries}The connection was refused' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    where = ("launch=kubernetes", "launch.volume_claim=books", f"launch.mount={tmp_path}")
    assert main(["launch", "train", *where]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "nextchapter launch train: launch: kubectl refused (The connection was refused)"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["gpus_per_node=8", "nodes=3"], "hardware.nodes: 3 asked for, and the most with 8 GPUs"),
        (["gpus_per_node=16"], "the largest node of big, the default partition, has 8; ask for"),
        (["gpus_per_node=4", "nodes=6", "launch.partition=big"], "4 GPUs in big are 5; ask for"),
        (
            ["launch.device=cpu", "nodes=6"],
            "6 asked for, and the most in big, the default partition,",
        ),
        (
            ["launch.device=cpu", "nodes=8", "launch.extra=['--partition=small']"],
            "most in any partit",
        ),
        (["launch.partition='big,smal'"], "launch.partition: no 'smal'; did you mean 'small'?"),
        (["gpus_per_node=4", "nodes=5", "launch.partition='small,big'"], "sbatch refused the job"),
    ],
)
def test_a_job_that_would_wait_for_ever_is_refused_with_what_there_is(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    settings: list[str],
    says: str,
) -> None:
    for name, body in (
        ("sinfo", "echo 'big*|2|gpu:h100:8'; echo 'big*|3|gpu:4'; echo 'small|7|(null)'"),
        ("sbatch", "exit 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)
    assert main(["launch", "train", "launch=slurm", *settings]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    # For sbatch its environment is above the options of the script.
    monkeypatch.setenv("SBATCH_PARTITION", "tiny")
    assert main(["launch", "train", "launch=slurm", *settings]) == 2
    assert "SBATCH_PARTITION: no 'tiny'; there is big, small" in capsys.readouterr().err
    monkeypatch.setenv("SBATCH_PARTITION", "small")
    assert main(["launch", "train", "launch=slurm", "launch.device=cpu", "nodes=8"]) == 2
    assert "in small are 7; ask for fewer, or for another SBATCH_PART" in capsys.readouterr().err


def test_gpus_are_counted_as_slurm_writes_them() -> None:
    assert _gpus("gpu:h100:8(S:0-1)") == 8
    assert _gpus("gpu:4,nvme:1") == 4
    assert _gpus("gpu:h100:4,gpu:a100:2(S:0),nvme:1") == 6
    assert _gpus("gpu:3090:4") == 4
    assert _gpus("gpu:2080ti:8(S:0-1)") == 8
    assert _gpus("gpu:1g.10gb:7") == 7
    assert _gpus("(null)") == 0


def test_a_manifest_has_what_kubeflow_knows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("kubeflow_trainer_api", reason="needs nextchapter[kubernetes]")
    argv = ["launch", "train", "launch=kubernetes", "nodes=2", "gpus_per_node=8", "--dry-run"]
    claim = ("launch.volume_claim=books", f"launch.mount={tmp_path}")
    assert main([*argv, *claim, "run_dir=runs/A_b"]) == 0
    shown = capsys.readouterr().out
    # Kubernetes would take references of YAML; a user who edits one line would edit two.
    assert "&id" not in shown
    assert "kind: TrainJob" in shown and "numNodes: 2" in shown
    assert "nvidia.com/gpu: '8'" in shown and "claimName: books" in shown
    assert "name: nextchapter-a-b-" in shown


def test_the_record_of_a_job_says_what_is_wrong_with_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "job"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"run": "x"}))
    assert main(["launch", "status", "run"]) == 2
    assert "job.json" in capsys.readouterr().err

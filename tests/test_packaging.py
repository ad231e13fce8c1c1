"""What a wheel holds, and what the lock pins."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_wheel_holds_every_module_and_config(repository: Path, tmp_path: Path) -> None:
    # From a copy, because a build leaves folders behind.
    source = tmp_path / "source"
    files = [repository / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    files.append(repository / "nextchapter.py")
    for package in ("envs", "rewards", "train", "launch", "configs"):
        files += [p for p in (repository / package).rglob("*") if p.suffix in (".py", ".yaml")]
    for file in files:
        copy = source / file.relative_to(repository)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    wanted = {file.relative_to(repository).as_posix() for file in files[3:]}
    assert wanted <= packed


def test_the_lock_pins_every_package_to_one_release(repository: Path) -> None:
    lines = (repository / "requirements.lock").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    # A local tag (+cpu) or a URL would tie the lock to one machine.
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", pin) for pin in pins)
    assert any(pin.startswith("torch==") for pin in pins)

"""A skip for want of the shelf of real books is a failure where the shelf has to be there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("required", "status"), [("0", 0), ("1", 1)])
def test_a_skip_for_want_of_the_shelf_fails_where_it_is_required(
    repository: Path, tmp_path: Path, required: str, status: int
) -> None:
    shutil.copy(repository / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_shelf.py").write_text("def test_reads(shared_books): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "NEXTCHAPTER_REQUIRE_SHARED": required},
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.returncode == status

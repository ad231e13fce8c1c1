"""The shape of the repository: who imports whom, and that our names mean our packages."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Each package may import those before it.
PACKAGES = ("envs", "rewards", "train", "launch")
# The one file that knows TRL's trainer and rows, and the one that is measured against its kernel.
TRL_FILES = {"train/grpo.py", "train/bench/chunked.py"}
HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "deepspeed", "wandb"}


def sources(repository: Path, package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((repository / package).rglob("*.py")):
        yield path.relative_to(repository).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """The top-level package of every import among the nodes."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield (node.module or "").partition(".")[0]


def at_module_level(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_module_level(child)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(repository: Path, package: str) -> None:
    later = set(PACKAGES[PACKAGES.index(package) + 1 :])
    for path, tree in sources(repository, package):
        backwards = later & set(imported(ast.walk(tree)))
        assert not backwards, f"{path} imports {backwards}, which build on {package}"


def test_importing_any_module_of_launch_loads_no_torch(repository: Path) -> None:
    modules = [path for path, _ in sources(repository, "launch")]
    for path, tree in sources(repository, "launch"):
        assert not HEAVY & set(imported(at_module_level(tree))), path
    names = [path.removesuffix(".py").replace("/", ".") for path in modules]
    names = [name.removesuffix(".__init__") for name in names]
    script = f"import sys, {', '.join(names)}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=repository
    )
    assert done.stdout.strip() == "[]"


# Composes the default config and validates it as `nextchapter train` does, in a fresh process.
VALIDATE = f"""
import sys
from hydra import compose, initialize_config_dir
from train.commands import evaluate, train
from train.config.validate import parse
from train.schema import RunConfig
with initialize_config_dir(sys.argv[1], version_base="1.3"):
    for trainer in ("grpo", "ppo"):
        parse(RunConfig, compose("train", [f"trainer={{trainer}}", "run_dir=unused"]))
print(sorted({HEAVY!r} & set(sys.modules)))
"""


def test_a_setting_is_checked_before_anything_heavy_is_loaded(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE, repository / "configs"],
        capture_output=True,
        text=True,
        check=True,
        cwd=repository,
    )
    assert done.stdout.strip() == "[]"


def test_one_file_alone_knows_trl_and_one_measures_its_kernel(repository: Path) -> None:
    knowing = {
        path
        for package in PACKAGES
        for path, tree in sources(repository, package)
        if "trl" in imported(ast.walk(tree))
    }
    assert knowing <= TRL_FILES


@pytest.mark.parametrize("package", [*PACKAGES, "configs"])
def test_each_package_resolves_inside_the_repository(repository: Path, package: str) -> None:
    module = importlib.import_module(package)
    # An editable install adds an import hook to the path of a package without code.
    folders = {Path(folder).resolve() for folder in module.__path__ if Path(folder).exists()}
    assert folders == {repository / package}


def test_a_stray_file_in_the_working_directory_does_not_shadow_a_package(tmp_path: Path) -> None:
    for package in PACKAGES:
        (tmp_path / f"{package}.py").write_text("raise SystemExit('shadowed')")
    script = Path(sys.executable).with_name("nextchapter")
    assert script.exists(), "the console script is installed by `make setup`"
    done = subprocess.run([script, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_test_folders_are_not_packages(repository: Path) -> None:
    assert not list((repository / "tests").rglob("__init__.py"))


def test_no_code_loads_pickles(repository: Path) -> None:
    for package in PACKAGES:
        for path, tree in sources(repository, package):
            assert not {"pickle", "dill", "joblib"} & set(imported(ast.walk(tree))), path

"""`nextchapter bench scoring`: how fast likelihoods are scored, beside other ways and a floor."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.arguments import OneLineParser


def main(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    _check_output(arguments.output)
    from train.bench.scales import choose_scale

    scale = choose_scale(arguments.device, arguments.quick, arguments.shapes, arguments.repeats)

    from rich.console import Console

    from train.bench.report import as_json, as_tables
    from train.bench.scoring import run
    from train.progress import ProgressDisplay
    from train.quiet import quiet_libraries

    quiet_libraries()
    report = run(scale, ProgressDisplay())
    # A pipe or a file has no width of its own, and 80 columns would fold every line.
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(*as_tables(report), sep="\n")
    if arguments.output is not None:
        text = json.dumps(as_json(report), ensure_ascii=False, indent=2)
        arguments.output.write_text(text + "\n", encoding="utf-8")
        print(f"Results are in {arguments.output}")
    return 0


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="nextchapter bench", description=__doc__)
    kinds = parser.add_subparsers(required=True, metavar="BENCHMARK")
    scoring = kinds.add_parser("scoring", help="likelihoods of gold chapters", description=__doc__)
    scoring.add_argument(
        "--quick", action="store_true", help="a small model, for a run of less than a minute"
    )
    scoring.add_argument(
        "--output", type=Path, metavar="FILE", help="write the results as JSON to this file"
    )
    scoring.add_argument(
        "--repeats", type=_positive, metavar="N", help="how often everything is timed"
    )
    scoring.add_argument(
        "--shapes", nargs="+", metavar="NAME", help="only these shapes, such as g16; default: all"
    )
    scoring.add_argument(
        "--device", choices=("cpu", "cuda"), help="default: cuda where there is one"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def _check_output(path: Path | None) -> None:
    """Refuses, before an hour of work, a file that cannot be written."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise ValueError(f"--output: {path} cannot be written; name a file in an existing folder")

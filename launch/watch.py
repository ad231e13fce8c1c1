"""`nextchapter watch run=runs/<run>`: how a run is going, read from its folder alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live

from launch.arguments import OneLineParser


def main(argv: Sequence[str]) -> int:
    """Shows the run until it is done or Ctrl-C; once where the output is no terminal."""
    parser = OneLineParser(prog="nextchapter watch", description=__doc__)
    parser.add_argument("run", metavar="run=DIR", help="the folder of a run, runs/<run>")
    parser.add_argument("--once", action="store_true", help="show it once and end")
    parser.add_argument(
        "--every", type=float, default=2.0, metavar="S", help="seconds between looks"
    )
    arguments = parser.parse_args(argv)
    if arguments.every <= 0:
        raise ValueError(f"--every: should be above 0 seconds; got {arguments.every:g}")

    from train.watch import Watched, as_table

    folder = Path(arguments.run.removeprefix("run="))
    watched = Watched.read(folder)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if arguments.once or not console.is_terminal:
        console.print(as_table(watched))
        return 0
    with Live(as_table(watched), console=console, auto_refresh=False) as live:
        while not watched.is_done:
            time.sleep(arguments.every)
            watched = Watched.read(folder)
            live.update(as_table(watched), refresh=True)
    return 0

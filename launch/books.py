"""`nextchapter books PATH...`: what is found in book files, and what was left out and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from launch.arguments import OneLineParser


def main(argv: Sequence[str]) -> int:
    parser = OneLineParser(prog="nextchapter books", description=__doc__)
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="an EPUB, text or JSONL file, or a folder of them"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    arguments = parser.parse_args(argv)

    from envs.books import as_json, as_table, read_shelf

    shelf = read_shelf(arguments.paths)
    if arguments.json:
        print(json.dumps(as_json(shelf), ensure_ascii=False, indent=2))
    else:
        from rich.console import Console

        # A pipe or a file has no width of its own, and 80 columns would fold every line.
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(as_table(shelf))
    return 0

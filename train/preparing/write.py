"""What a preparation leaves: rows by split, and a manifest that says how they came about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from envs.types import Book, Split
from train.files import write_json, write_text
from train.member_ledgers import MEMBERS
from train.preparing.desk import Tally
from train.preparing.rows import HINDSIGHT

MANIFEST = "manifest.json"
SPLITS: tuple[Split, ...] = get_args(Split)


def check_folder(folder: Path, settings: Mapping[str, Any], made_by: Mapping[str, Any]) -> None:
    """Refuses a folder whose rows were made otherwise, or that holds other things.

    Raises:
        ValueError: it does.
    """
    path = folder / MANIFEST
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            earlier = {**found["settings"], **found["made_by"]}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: is no manifest; choose a new folder with run_dir=PATH"
            ) from error
        # As they would stand there: tuples are lists in JSON.
        asked = json.loads(json.dumps({**settings, **made_by}))
        if earlier != asked:
            changed = sorted(k for k in {*earlier, *asked} if earlier.get(k) != asked.get(k))
            raise ValueError(
                f"{folder}: holds rows that were made with another {changed[0]}; choose a new "
                "folder with run_dir=PATH"
            )
        return
    if folder.is_dir():
        # A preparation that failed has paid as well.
        ours = {MEMBERS, *(f"{split}.jsonl" for split in SPLITS)}
        others = [p.name for p in folder.iterdir() if p.name not in ours and p.suffix != ".log"]
        if others:
            raise ValueError(
                f"{folder}: is not empty (it holds {sorted(others)[0]}); choose a new folder with "
                "run_dir=PATH"
            )


def write_rows(folder: Path, rows: Mapping[Split, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """A JSONL file for each split; what is in them, for the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {}
    for split, found in rows.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        write_text(folder / f"{split}.jsonl", text)
        files[f"{split}.jsonl"] = {
            "books": len({row["story_id"] for row in found}),
            "episodes": len(found),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
    return files


def manifest(
    settings: Mapping[str, Any],
    identities: Mapping[str, Any],
    files: Mapping[str, Any],
    books: Mapping[Split, Sequence[Book]],
    rows: Mapping[Split, Sequence[Mapping[str, Any]]],
    tally: Tally,
    statements: Mapping[str, int],
) -> dict[str, Any]:
    """How the rows came about. It holds no times, so that a run that was killed leaves the same."""
    every = [row for found in rows.values() for row in found]
    kinds = sorted({*tally.costs, *tally.failures})
    return {
        "files": files,
        "costs": {**{k: tally.costs[k].named() for k in kinds}, "total": tally.total.named()},
        "statements": dict(sorted(statements.items())),
        "failures": {
            k: dict(sorted(tally.failures[k].items())) for k in kinds if tally.failures[k]
        },
        "rows_without": {
            name: sum(not row[name] for row in every)
            for name in ("prior_plot_summary", "character_sheets", "last_n_chapters")
        },
        "hindsight": {
            name: {"made": what, "rows": sum(bool(row[name]) for row in every)}
            for name, what in HINDSIGHT.items()
        },
        "books": {
            book.book_id: {"split": split, "title": book.title, "chapters": len(book.chapters)}
            for split, found in books.items()
            for book in found
        },
        "made_by": identities,
        "settings": settings,
    }


def write_manifest(folder: Path, found: Mapping[str, Any]) -> None:
    """Last, because it is what makes the rows whole."""
    write_json(folder / MANIFEST, found)

"""What members that keep a ledger, such as endpoints, were asked and paid: in `members.json`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from envs.members.ledger import FAILURES, Ledger
from train import ranks
from train.files import read_json, write_json

MEMBERS = "members.json"
_logger = logging.getLogger(__name__)

Numbers = Mapping[str, float]


def ledgers_of(members: Mapping[str, object]) -> dict[str, Ledger]:
    """The ledgers of those who keep one, by the member's name."""
    kept = {name: getattr(member, "ledger", None) for name, member in members.items()}
    return {name: ledger for name, ledger in kept.items() if isinstance(ledger, Ledger)}


def ledgers_in(env: object) -> dict[str, Ledger]:
    """Those of the members of an env's cast, where it has one."""
    cast = getattr(env, "cast", None)
    return {} if cast is None else ledgers_of(cast.members)


def over_all_processes(ledgers: Mapping[str, Ledger]) -> dict[str, dict[str, float]]:
    """The sums of each ledger, of all processes together; all of them have to ask."""
    own = {name: ledger.numbers() for name, ledger in ledgers.items()}
    flat = iter(ranks.summed([value for numbers in own.values() for value in numbers.values()]))
    return {
        name: {what: type(value)(next(flat)) for what, value in numbers.items()}
        for name, numbers in own.items()
    }


@contextmanager
def accounted(folder: Path | None, ledgers: Mapping[str, Ledger]) -> Iterator[None]:
    """Reports what the ledgers hold when what is done within ends, also where it fails.

    Of several processes that fail each would wait for the others, so that they report nothing.
    """
    try:
        yield
    except BaseException:
        was_asked = any(ledger.requests for ledger in ledgers.values())
        if was_asked and ranks.num_processes() == 1:
            report_members(folder, ledgers)
        raise
    report_members(folder, ledgers)


def report_members(folder: Path | None, ledgers: Mapping[str, Ledger]) -> None:
    """A log line for each ledger, and its sums in `members.json`, added to those of earlier starts.

    All processes have to call it.
    """
    if not ledgers:
        return
    found = over_all_processes(ledgers)
    if not ranks.is_main():
        return
    for name, numbers in found.items():
        _logger.info("%s: %s", name, told(numbers))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / MEMBERS
        earlier = read_json(path) if path.exists() else {}
        write_json(path, earlier | {n: _added(earlier.get(n, {}), now) for n, now in found.items()})


def told(numbers: Numbers) -> str:
    """The sums of a ledger in one line."""
    lacking = {why: numbers[f"failed/{why}"] for why in FAILURES if numbers[f"failed/{why}"]}
    named = f" ({', '.join(f'{count} {why}' for why, count in lacking.items())})" if lacking else ""
    parts = [
        f"requests: {numbers['requests']} ({numbers['retries']} tried again)",
        f"answers: {numbers['answers']} ({numbers['rejected']} rejected)",
        f"without an answer: {sum(lacking.values())}{named}",
        f"tokens read: {numbers['read_tokens']}, generated: {numbers['generated_tokens']}, "
        f"paid: {numbers['money']:g}",
    ]
    if numbers["unmetered"]:
        parts.append(
            f"not counted by the server: {numbers['unmetered']}, at most "
            f"{numbers['estimated_read_tokens']} tokens read, "
            f"{numbers['estimated_generated_tokens']} generated, "
            f"{numbers['estimated_money']:g} paid"
        )
    return "; ".join(parts)


def _added(earlier: Numbers, now: Numbers) -> dict[str, float]:
    return {what: earlier.get(what, 0) + value for what, value in now.items()}

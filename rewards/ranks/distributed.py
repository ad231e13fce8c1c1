"""Scoring over many ranks: whole groups, balanced by cost; one exchange there and one back."""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rewards.likelihood.checks import check_plain
from rewards.likelihood.flops import GroupCost, ModelShape, group_flops
from rewards.ranks.balance import balance, rank_flops
from rewards.ranks.exchange import Exchange, LostRank
from rewards.ranks.packing import (
    check_packable,
    pack_error,
    pack_likelihoods,
    pack_requests,
    raise_first_error,
    unpack_likelihoods,
    unpack_requests,
)
from rewards.types import Likelihood, LikelihoodScorer, ScoreRequest

# What every rank knows of every request: two digests of 16 bytes, three lengths, and whether it is
# scored by itself.
INTS_PER_DIGEST = 2
DIGEST_BYTES = 8 * INTS_PER_DIGEST
ROW_INTS = 2 * INTS_PER_DIGEST + 4
LENGTHS = slice(2 * INTS_PER_DIGEST, ROW_INTS - 1)
# A rank says so in place of the number of its requests.
CANNOT_ASK = -1

Row = tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """One distinct request: the place it has on each rank that holds it, who scores it, and how."""

    holders: Mapping[int, int]
    replica: int
    num_gold: int
    by_itself: bool = False

    @property
    def sender(self) -> int:
        """Of the ranks that hold it, the one that sends it."""
        return min(self.holders)


class DistributedScorer:
    """Scores the requests of all ranks of a process group together.

    `score` is collective: every rank calls it equally often, with its own requests or with none.
    Requests with one prefix are scored together on one rank, whichever ranks they came from, and
    equal ones once; the groups are balanced by their floating point operations, and a group that is
    too large for that is split, at the cost of going through its prefix again.

    An error on one rank is raised on all of them, with its text and its rank, and leaves the group
    fit for the next call. A rank that dies is a `LostRank` on the others.

    A generator too large for one device:
    - sharded by tensor parallelism: `ranks_per_replica` consecutive ranks hold one replica, and all
      of them score the same requests;
    - sharded by FSDP or ZeRO-3: `in_step=EqualForwards(...)` keeps the numbers of forwards equal.
    """

    def __init__(
        self,
        scorer: LikelihoodScorer,
        shape: ModelShape,
        exchange: Exchange,
        ranks_per_replica: int = 1,
        in_step: AbstractContextManager[object] | None = None,
    ) -> None:
        if exchange.num_ranks % ranks_per_replica:
            raise ValueError(
                f"ranks_per_replica must divide the {exchange.num_ranks} ranks of the group; "
                f"got {ranks_per_replica}."
            )
        self.scorer = scorer
        self.shape = shape
        self.exchange = exchange
        self.ranks_per_replica = ranks_per_replica
        self.in_step = nullcontext() if in_step is None else in_step

    @property
    def seconds_waited(self) -> float:
        """For other ranks, in all calls so far."""
        return self.exchange.seconds_waited

    def score(self, requests: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood per request of this rank, in order.

        Raises:
            ValueError, OSError, RuntimeError: what the scorer of any rank raised, by its family, or
                what is wrong with a request.
            LostRank: a rank died or does not answer.
        """
        rows, error = _rows_of(requests)
        # By what is scored: the same ids may go by the names of two episodes.
        mine = {row[:-1]: (row, r) for row, r in zip(rows, requests, strict=False)}
        table = self._gather_rows([row for row, _ in mine.values()], error)
        jobs = plan_jobs(table, self.exchange.num_ranks // self.ranks_per_replica, self.shape)
        work = self._hand_out([request for _, request in mine.values()], jobs)
        found, error = self._score_locally(work)
        answers = self._answer(jobs, found) if error is None else self._answer_all(error)
        replies = self.exchange.swap(answers)
        raise_first_error(replies, error)
        likelihoods = self._collect(jobs, replies)
        places = {what: place for place, what in enumerate(mine)}
        return [likelihoods[places[row[:-1]]] for row in rows]

    def _gather_rows(self, mine: Sequence[Row], error: Exception | None) -> list[list[list[int]]]:
        """The rows of every rank's requests, by rank; or the error of the first that has one."""
        own_count = len(mine) if error is None else CANNOT_ASK
        counts = self.exchange.broadcast_all(torch.tensor([own_count]))
        if any(int(count) == CANNOT_ASK for count in counts):
            told = pack_likelihoods([]) if error is None else pack_error(error)
            raise_first_error(self.exchange.swap([told] * self.exchange.num_ranks), error)
        longest = max(int(count) for count in counts)
        if not longest:
            return [[] for _ in counts]
        rows = torch.zeros(longest, ROW_INTS, dtype=torch.int64)
        if mine:
            rows[: len(mine)] = torch.tensor(mine)
        gathered = self.exchange.broadcast_all(rows)
        return [table[: int(count)].tolist() for table, count in zip(gathered, counts, strict=True)]

    def _hand_out(self, mine: Sequence[ScoreRequest], jobs: Sequence[Job]) -> list[ScoreRequest]:
        """Sends this rank's requests to whom they are assigned; gives those assigned to it."""
        rank = self.exchange.rank
        sent: dict[int, list[ScoreRequest]] = defaultdict(list)
        for job in jobs:
            if job.sender == rank:
                sent[job.replica].append(mine[job.holders[rank]])
        messages = {replica: pack_requests(requests) for replica, requests in sent.items()}
        none = pack_requests([])
        received = self.exchange.swap(
            [
                messages.get(receiver // self.ranks_per_replica, none)
                for receiver in range(self.exchange.num_ranks)
            ]
        )
        unpacked = [request for message in received for request in unpack_requests(message)]
        own = [job for job in jobs if job.replica == rank // self.ranks_per_replica]
        return [
            replace(request, by_itself=job.by_itself)
            for request, job in zip(unpacked, own, strict=True)
        ]

    def _score_locally(
        self, work: Sequence[ScoreRequest]
    ) -> tuple[list[Likelihood], Exception | None]:
        try:
            with self.in_step:
                found = self.scorer.score(work)
            for request, likelihood in zip(work, found, strict=True):
                assert likelihood.num_tokens == len(request.gold_ids), request.episode_id
            return found, None
        except LostRank:
            raise
        except Exception as error:
            # Whatever it is, the others wait for an answer: it is raised on all ranks together.
            return [], error

    def _answer(self, jobs: Sequence[Job], found: Sequence[Likelihood]) -> list[Tensor]:
        """The likelihoods for each rank; a replica's first rank answers for all of it."""
        replica, place_in_replica = divmod(self.exchange.rank, self.ranks_per_replica)
        answers: list[list[Likelihood]] = [[] for _ in range(self.exchange.num_ranks)]
        if place_in_replica == 0:
            done = [job for job in jobs if job.replica == replica]
            for job, likelihood in zip(done, found, strict=True):
                for holder in job.holders:
                    answers[holder].append(likelihood)
        return [pack_likelihoods(answer) for answer in answers]

    def _answer_all(self, error: Exception) -> list[Tensor]:
        return [pack_error(error)] * self.exchange.num_ranks

    def _collect(self, jobs: Sequence[Job], replies: Sequence[Tensor]) -> dict[int, Likelihood]:
        """The likelihoods of this rank's requests, by place."""
        rank = self.exchange.rank
        awaited: dict[int, list[Job]] = defaultdict(list)
        for job in jobs:
            if rank in job.holders:
                awaited[job.replica].append(job)
        return {
            job.holders[rank]: likelihood
            for replica, asked in awaited.items()
            for job, likelihood in zip(
                asked,
                unpack_likelihoods(
                    replies[replica * self.ranks_per_replica], [job.num_gold for job in asked]
                ),
                strict=True,
            )
        }


def plan_jobs(
    rows_by_rank: Sequence[Sequence[Sequence[int]]], num_replicas: int, shape: ModelShape
) -> list[Job]:
    """Who scores what, from the rows of all ranks; every rank makes the same plan of them.

    What is scored by itself goes where its group goes and has no say in that, unless it is alone.
    The jobs come in the order in which a replica receives them: by sender.
    """
    holders: dict[Row, dict[int, int]] = defaultdict(dict)
    by_themselves: set[Row] = set()
    for rank, rows in enumerate(rows_by_rank):
        for place, (*what, by_itself) in enumerate(rows):
            holders[tuple(what)][rank] = place
            if by_itself:
                by_themselves.add(tuple(what))
    groups: dict[Row, list[Row]] = defaultdict(list)
    # Last, so that the order of groups, which decides between equals, is that of the others.
    for row in sorted(holders, key=lambda row: row in by_themselves):
        groups[row[:INTS_PER_DIGEST]].append(row)
    deciding = [[r for r in rows if r not in by_themselves] or rows for rows in groups.values()]
    costs = [_cost(rows, shape) for rows in deciding]
    plan = balance(costs, num_replicas)
    chosen = [[deciding[s.group][m] for s in shares for m in s.members] for shares in plan]
    loads = [rank_flops(costs, {s.group: s.members for s in shares}) for shares in plan]
    replicas_of: dict[int, list[int]] = defaultdict(list)
    for replica, shares in enumerate(plan):
        for share in shares:
            replicas_of[share.group].append(replica)
    for index, rows in enumerate(groups.values()):
        for row in rows[len(deciding[index]) :]:
            # Where the group is split, with the idlest of those that read its prefix anyway.
            replica = min(replicas_of[index], key=lambda r: loads[r])
            chosen[replica].append(row)
            loads[replica] += sum(_cost([row], shape).members)
    jobs = [
        Job(holders[row], replica, row[-1], row in by_themselves)
        for replica, rows in enumerate(chosen)
        for row in rows
    ]
    return sorted(jobs, key=lambda job: job.sender)


def _cost(rows: Sequence[Row], shape: ModelShape) -> GroupCost:
    """Of the requests of one prefix."""
    prefix_len, suffix_lens, gold_lens = zip(*(row[LENGTHS] for row in rows), strict=True)
    return group_flops(prefix_len[0], suffix_lens, gold_lens, shape)


def request_row(request: ScoreRequest) -> Row:
    """What every rank learns of a request.

    Digests of its prefix and of all of it, its lengths, and whether it is scored by itself.
    """
    prefix = hashlib.sha256(array("q", request.prefix_ids).tobytes()).digest()
    digests = array("q", prefix[:DIGEST_BYTES] + request.digest[:DIGEST_BYTES])
    num_gold = len(request.gold_ids)
    lengths = len(request.prefix_ids), len(request.guidance_ids) + num_gold, num_gold
    return *digests, *lengths, int(request.by_itself)


def _rows_of(requests: Sequence[ScoreRequest]) -> tuple[list[Row], Exception | None]:
    """The rows of requests, or why one of them cannot be handed on."""
    try:
        for request in requests:
            # A `MixtureScorer` around this one keeps those with a mixture; they never travel.
            check_plain(request)
            check_packable(request)
        return [request_row(request) for request in requests], None
    except Exception as error:
        # Whatever is wrong here, the other ranks wait for this one's rows.
        return [], error

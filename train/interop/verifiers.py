"""The next chapter as an environment of `verifiers`, for prime-rl, `vf-eval` and the hub.

Whoever trains or evaluates brings the model; the books, the prompt, the generator and the reward
are those of a run. `nextchapter.py` at the top offers all of it under the id `nextchapter`.
"""

# What verifiers asks an environment to narrow, its generic types do not let one narrow.
# pyright: reportIncompatibleVariableOverride=false, reportInvalidTypeArguments=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache

import verifiers.v1 as vf
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam

from envs.types import Episode, PlanStatus, Reply, Rollout
from rewards.types import Score
from train.interop.prepared import AnySplit, Prepared, prepared

ID = "nextchapter"


class NextChapterTaskConfig(vf.TaskConfig):
    """Whose reward is paid; workers that only score need no more than this."""

    run: str | None = None
    """Folder of a finished run, whose settings and generator are taken; empty for none."""
    overrides: list[str] = []  # noqa: RUF012  pydantic copies it
    """Settings of `nextchapter train`, in Hydra's form."""


class NextChapterConfig(vf.TasksetConfig):
    """Which chapters are planned."""

    split: AnySplit = "train"
    """Books of one split, or `all` of them."""
    task: NextChapterTaskConfig = NextChapterTaskConfig()


class NextChapterData(vf.TaskData):
    """One chapter to plan: `id` is the episode's, and the prompt is all that travels of it."""


class Scoring:
    """Judges the answers that arrive while others are being scored together, in one pass.

    Episodes share their prefix within a pass, so that to score one answer at a time would read each
    context again for each.
    """

    def __init__(self, books: Prepared) -> None:
        self._books = books
        self._waiting: list[tuple[str, Reply, asyncio.Future[tuple[Rollout, Score]]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def judge(self, episode_id: str, reply: Reply) -> tuple[Rollout, Score]:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((episode_id, reply, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            ids, replies = [id_ for id_, _, _ in taken], [reply for _, reply, _ in taken]
            try:
                # Elsewhere, so that other rollouts go on meanwhile.
                judged = await asyncio.to_thread(self._books.judged, ids, replies)
            except Exception as error:
                # It is theirs to handle: a failed score is an error, and never a 0.
                for _, _, future in taken:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, _, future), found in zip(taken, judged, strict=True):
                if not future.done():
                    future.set_result(found)


@cache
def _scoring(run: str | None, overrides: tuple[str, ...]) -> Scoring:
    return Scoring(prepared(run, overrides))


class NextChapterTask(vf.Task[NextChapterData, vf.State, NextChapterTaskConfig]):
    """Pays an answer what the run's reward pays for its plan."""

    @property
    def key(self) -> str:
        return str(self.data.id)

    @vf.reward
    async def reward(self, trace: vf.Trace) -> float:
        """The reward; beside it, as metrics, the improvement in per cent and every term."""
        scoring = _scoring(self.config.run, tuple(self.config.overrides))
        reply = Reply(trace.last_reply, truncated=trace.is_truncated)
        rollout, score = await scoring.judge(self.key, reply)
        trace.record_metrics(
            {
                **({} if score.improvement is None else {"improvement": score.improvement}),
                **{f"reward/{name}": value for name, value in score.terms.items()},
                **{f"plan/{s.value}": float(rollout.status is s) for s in PlanStatus},
            }
        )
        return score.reward


class NextChapterTaskset(vf.Taskset[NextChapterTask, NextChapterConfig]):
    """The chapters of a split, in the order of the books."""

    def load(self) -> list[NextChapterTask]:
        task = self.config.task
        books = prepared(task.run, tuple(task.overrides))
        found = [_data(episode, books) for episode in books.episodes(self.config.split)]
        return [NextChapterTask(data, task) for data in found]


def _data(episode: Episode, books: Prepared) -> NextChapterData:
    asked = books.env.ask(episode)
    system = "\n\n".join(message.content for message in asked if message.role == "system")
    (user,) = (message.content for message in asked if message.role == "user")
    return NextChapterData(
        id=episode.episode_id, name=episode.episode_id, prompt=user, system_prompt=system or None
    )


class OneAnswerHarness(vf.Harness[vf.HarnessConfig]):
    """Asks the model once, in this process: a plan is one answer, and needs no program or box."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        system, user = self.resolve_text_prompt(data)
        messages: list[ChatCompletionMessageParam] = []
        if system:
            messages.append({"role": "system", "content": system})
        messages.append({"role": "user", "content": user or ""})
        async with AsyncOpenAI(base_url=endpoint, api_key=secret, timeout=None) as client:
            await client.chat.completions.create(model=ctx.model, messages=messages)
        return vf.ProgramResult(0, "", "")


class NextChapterEnvConfig(vf.EnvConfig):
    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    """The planner; it executes nothing, so that nothing has to be kept apart."""


class NextChapterEnv(vf.Env[NextChapterEnvConfig]):
    """One agent, one answer, one plan."""

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        await agents.agent.run(task)


def load_environment(
    run: str | None = None, overrides: Sequence[str] = (), split: AnySplit = "train"
) -> vf.Env:
    """The environment with the books, generator and reward of a run, or of settings alone."""
    task = {"run": run, "overrides": list(overrides)}
    return vf.load_environment(
        vf.resolve_env_config({"taskset": {"id": ID, "split": split, "task": task}})
    )

"""The environment of `verifiers`, played by the package itself against a server that answers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from envs.types import Reply
from train.interop.prepared import prepared

pytest.importorskip("verifiers", reason="needs the package verifiers: nextchapter[verifiers]")
import verifiers.v1 as vf

import nextchapter
from train.interop.verifiers import NextChapterTaskset, Scoring

pytestmark = pytest.mark.filterwarnings("ignore")
ANSWER = "I think. In summary: Ann will bargain with Bob at the mill."


class Model(ThreadingHTTPServer):
    """An OpenAI-compatible server whose model always says the same, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, text: str, finish: str = "stop") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.text, self.finish = text, finish
        self.asked: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def context(self) -> vf.ModelContext:
        url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        client = vf.EvalClientConfig(base_url=url, api_key_var="NO_KEY_IS_NEEDED")
        return vf.ModelContext(
            client=client, model="tiny", sampling=vf.SamplingConfig.model_validate({})
        )


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        model = self.server
        assert isinstance(model, Model)
        model.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        message = {"role": "assistant", "content": model.text}
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "tiny",
            "choices": [{"index": 0, "message": message, "finish_reason": model.finish}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal of the tests."""


@pytest.fixture
def serve() -> Iterator[Callable[..., Model]]:
    served: list[Model] = []

    def start(text: str, finish: str = "stop") -> Model:
        served.append(Model(text, finish))
        return served[-1]

    yield start
    for model in served:
        model.shutdown()
        model.server_close()


def play(env: vf.Env, model: Model, num_tasks: int, attempts: int) -> list[vf.Trace]:
    async def all_of_them() -> list[vf.Trace]:
        async with env.serving():
            tasks = list(env.taskset)[:num_tasks]
            slots = [slot for task in tasks for slot in env.slots(task, attempts)]
            played = await asyncio.gather(*(env.run_slot(s, model.context) for s in slots))
        return [trace for episode in played for trace in episode.traces]

    return asyncio.run(all_of_them())


def test_an_answer_earns_what_the_run_pays_for_its_plan(
    overrides: tuple[str, ...], serve: Callable[..., Model]
) -> None:
    env = nextchapter.load_environment(overrides=overrides, split="test")
    assert isinstance(env, nextchapter.NextChapterEnv)
    model = serve(ANSWER)
    traces = play(env, model, num_tasks=2, attempts=2)
    assert len(traces) == 4
    books = prepared(None, overrides)
    for trace in traces:
        assert trace.errors == []
        episode_id = str(trace.task.data.id)
        ((_, score),) = books.judged([episode_id], [Reply(ANSWER)])
        assert trace.reward == pytest.approx(score.reward, abs=1e-4) != 0.0
        assert trace.metrics["improvement"] == pytest.approx(score.improvement, abs=1e-4)
        assert trace.metrics["plan/complete"] == 1.0


def test_the_model_is_asked_what_the_run_s_own_agent_is_asked(
    overrides: tuple[str, ...], serve: Callable[..., Model]
) -> None:
    told = (*overrides, "prompts.system=You plan books.")
    model = serve(ANSWER)
    play(nextchapter.load_environment(overrides=told), model, num_tasks=1, attempts=1)
    books = prepared(None, told)
    asked = books.env.ask(books.episodes("train")[0])
    assert [m.role for m in asked] == ["system", "user"]
    (request,) = model.asked
    assert [(m["role"], m["content"]) for m in request["messages"]] == [
        (m.role, m.content) for m in asked
    ]


def test_an_answer_without_a_plan_or_cut_short_falls_under_the_run_s_rules(
    overrides: tuple[str, ...], serve: Callable[..., Model]
) -> None:
    ruled = (*overrides, "reward.rules.no_plan=-3.0", "reward.rules.truncated=-2.0")
    env = nextchapter.load_environment(overrides=ruled)
    (trace,) = play(env, serve("I do not know."), num_tasks=1, attempts=1)
    assert (trace.reward, trace.metrics["plan/no_plan"]) == (-3.0, 1.0)
    assert "improvement" not in trace.metrics
    (trace,) = play(env, serve(ANSWER, finish="length"), num_tasks=1, attempts=1)
    assert (trace.reward, trace.metrics["plan/truncated"]) == (-2.0, 1.0)


def test_a_worker_scores_a_task_that_it_never_loaded(overrides: tuple[str, ...]) -> None:
    config = vf.resolve_env_config(
        {"taskset": {"id": "nextchapter", "task": {"overrides": list(overrides)}}}
    ).taskset
    taskset = vf.load_taskset(config)
    assert isinstance(taskset, NextChapterTaskset)
    task = next(iter(taskset))
    data = type(task).data_type().model_validate(task.data.model_dump())
    rebuilt = type(task)(data, config.task)  # pyright: ignore[reportArgumentType]
    assert (rebuilt.key, rebuilt.data) == (task.key, task.data)
    assert rebuilt.key == prepared(None, overrides).episodes("train")[0].episode_id


def test_answers_that_wait_are_scored_in_one_pass() -> None:
    passes: list[list[str]] = []

    class Books:
        def judged(self, ids: Sequence[str], replies: Sequence[Reply]) -> list[Any]:
            passes.append(list(ids))
            return [(id_, reply.text) for id_, reply in zip(ids, replies, strict=True)]

    async def ask() -> list[Any]:
        scoring = Scoring(Books())  # pyright: ignore[reportArgumentType]
        asked = [scoring.judge(str(i), Reply(f"plan {i}")) for i in range(5)]
        return list(await asyncio.gather(*asked))

    assert asyncio.run(ask()) == [(str(i), f"plan {i}") for i in range(5)]
    assert [id_ for one in passes for id_ in one] == ["0", "1", "2", "3", "4"]
    assert len(passes) == 1


def test_a_score_that_fails_is_an_error_and_no_zero() -> None:
    class Books:
        def judged(self, ids: Sequence[str], replies: Sequence[Reply]) -> list[Any]:
            raise ValueError(f"episode {ids[0]}: the reward failed")

    scoring = Scoring(Books())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="episode book/1: the reward failed"):
        asyncio.run(scoring.judge("book/1", Reply("plan")))


def test_a_reward_that_compares_attempts_is_refused(overrides: tuple[str, ...]) -> None:
    ranked = (*overrides, "reward=rank")
    with pytest.raises(ValueError, match=r"reward\.terms\.rank: compares all attempts"):
        prepared(None, ranked).judged(["x"], [Reply("plan")])


def test_an_env_of_several_agents_is_refused(overrides: tuple[str, ...]) -> None:
    env = nextchapter.load_environment(overrides=(*overrides, "env=debate"))
    with pytest.raises(ValueError, match=r"env: .* is played by several agents"):
        list(env.taskset)

"""Agents behind any server that speaks OpenAI's chat API: vLLM, SGLang, llama.cpp, hosted ones."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from pydantic import Field

from envs.members.ledger import Ledger, Prices
from envs.sampling import Sampling
from envs.types import Conversation, Reply, Usage

TOO_MANY_REQUESTS = 429
# Why a conversation has no answer, as plays count it (`failed/…`).
FAILURES = ("unreachable", "slow", "busy", "rubbish", "cost")
MAX_RESPONSE_BYTES = 8 * 2**20


class _Failed(Exception):
    """One attempt gave no answer; another may. `wait_s` is how long the server asks to wait."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.wait_s = wait_s


@dataclass(frozen=True)
class Endpoint:
    """Answers through `<base_url>/chat/completions`, several conversations at a time.

    What fails for a time (no connection, too slow, 429, 5xx, rubbish) is tried again with growing
    waits; what then has no answer is a reply with a failure (`unreachable`, `slow`, `busy`,
    `rubbish`, or `cost` beyond `max_cost`), and too many of them in a row are an error. A request
    that the server refuses for good is an error at once. `ledger` has the sums.
    """

    base_url: str
    """Such as http://127.0.0.1:8000/v1."""
    model: str
    """The model's name as the server knows it."""
    api_key_env: str | None = None
    """Environment variable that holds the key; empty for a server that wants none."""
    sampling: Sampling = field(default_factory=Sampling)
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """For one whole request."""
    max_retries: Annotated[int, Field(ge=0)] = 4
    backoff_s: Annotated[float, Field(gt=0)] = 1.0
    """Before the first retry; doubled before each of the next."""
    max_wait_s: Annotated[float, Field(gt=0)] = 60.0
    """No wait between two attempts is longer, whatever the server asks for."""
    concurrency: Annotated[int, Field(gt=0)] = 8
    """Requests at a time."""
    max_failures: Annotated[int, Field(gt=0)] = 16
    """So many conversations without an answer in a row end the run."""
    prices: Prices = field(default_factory=Prices)
    max_cost: Annotated[float, Field(gt=0)] | None = None
    """What all answers may cost together, in each process; empty for any sum."""
    ledger: Ledger = field(init=False, compare=False)

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query:
            raise ValueError(
                "base_url: should read http(s)://host[:port]/path, without a user, a password or a "
                "query; give a key by api_key_env"
            )
        if self.api_key_env and not os.environ.get(self.api_key_env):
            raise ValueError(
                f"api_key_env: the environment variable {self.api_key_env} is not set; export it, "
                "or leave api_key_env empty for a server without keys"
            )
        if self.sampling.top_k or self.sampling.repetition_penalty != 1.0:
            raise ValueError(
                "sampling: an endpoint is told max_new_tokens, temperature and top_p alone; leave "
                "top_k at 0 and repetition_penalty at 1.0"
            )
        object.__setattr__(self, "ledger", Ledger(self.prices))

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        with (
            httpx.Client(timeout=self.timeout_s) as client,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            replies = list(pool.map(lambda asked: self._answer(client, asked), conversations))
        for reply in replies:
            in_a_row = self.ledger.note(bool(reply.failure))
            if in_a_row >= self.max_failures and reply.failure != "cost":
                raise OSError(
                    f"{self.base_url}: {in_a_row} conversations in a row have no answer, the last "
                    f"one as the server is {reply.failure}; start or mend it, then resume"
                )
        return replies

    def identity(self) -> Mapping[str, object]:
        """All that its answers depend on beside what it is asked, as far as can be known here."""
        return {
            "base_url": self.base_url,
            "model": self.model,
            "sampling": asdict(self.sampling),
        }

    def _answer(self, client: httpx.Client, conversation: Conversation) -> Reply:
        if self.max_cost is not None and self.ledger.cost >= self.max_cost:
            self.ledger.add_failure("cost")
            return Reply("", failure="cost")
        for attempt in count():
            try:
                return self._read(self._post(client, conversation))
            except _Failed as failed:
                if attempt == self.max_retries:
                    self.ledger.add_failure(failed.why)
                    return Reply("", failure=failed.why)
                # Up to a half more, so that those who failed together do not come back together.
                wait_s = self.backoff_s * 2**attempt * random.uniform(1.0, 1.5)
                time.sleep(min(max(wait_s, failed.wait_s or 0.0), self.max_wait_s))
        raise AssertionError("the last attempt returns")

    def _post(self, client: httpx.Client, conversation: Conversation) -> bytes:
        """The body of the server's answer."""
        self.ledger.add_request()
        deadline = time.monotonic() + self.timeout_s
        try:
            with client.stream(
                "POST",
                f"{self.base_url.rstrip('/')}/chat/completions",
                json=self._request(conversation),
                headers=self._headers(),
            ) as response:
                body = b""
                for chunk in response.iter_bytes():
                    body += chunk
                    # The client's own timeout is for one read; a server may drip for ever.
                    if time.monotonic() > deadline:
                        raise _Failed("slow")
                    if len(body) > MAX_RESPONSE_BYTES:
                        raise _Failed("rubbish")
        except httpx.TimeoutException as error:
            raise _Failed("slow") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _Failed("unreachable") from error
        self._check(response, body)
        return body

    def _check(self, response: httpx.Response, body: bytes) -> None:
        status = response.status_code
        if status == TOO_MANY_REQUESTS or status >= 500:
            raise _Failed("busy", _seconds(response.headers.get("retry-after")))
        if status >= 300:
            said = " ".join(self._scrubbed(body.decode("utf-8", "replace")).split())[:300]
            raise ValueError(
                f"{self.base_url}: refused the request with status {status} ({said}); check "
                "base_url, model and api_key_env"
            )

    def _read(self, body: bytes) -> Reply:
        try:
            answer = json.loads(body)
            choice = answer["choices"][0]
            text = choice["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise _Failed("rubbish") from error
        if text is not None and not isinstance(text, str):
            raise _Failed("rubbish")
        metered = _usage(answer)
        self.ledger.add_answer(metered)
        usage = metered or Usage()
        is_cut = choice.get("finish_reason") == "length"
        paid = replace(usage, money=self.prices.of(usage))
        return Reply(text or "", truncated=is_cut, usage=paid)

    def _request(self, conversation: Conversation) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in conversation],
            "max_tokens": self.sampling.max_new_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
        }

    def _headers(self) -> dict[str, str]:
        # Read when it is needed and kept nowhere, so that no log or repr of this object has it.
        key = os.environ.get(self.api_key_env or "")
        return {"Authorization": f"Bearer {key}"} if key else {}

    def _scrubbed(self, text: str) -> str:
        """Servers like to repeat a wrong key."""
        key = os.environ.get(self.api_key_env or "")
        return text.replace(key, "***") if key else text


def _usage(answer: Any) -> Usage | None:
    found = answer.get("usage")
    if not isinstance(found, dict):
        return None
    read, generated = found.get("prompt_tokens"), found.get("completion_tokens")
    if not isinstance(read, int) or not isinstance(generated, int) or min(read, generated) < 0:
        return None
    return Usage(read, generated)


def _seconds(header: str | None) -> float | None:
    try:
        return float(header) if header else None
    except ValueError:
        # A date; the growing waits will do.
        return None

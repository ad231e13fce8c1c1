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

from envs.members.answers import asked_wait_s, bytes_in, counted_usage
from envs.members.ledger import Ledger, Prices
from envs.sampling import Sampling
from envs.types import Conversation, Reply, Usage

# Asked too early, too slowly or too often; what a server then asks for is another try.
TRY_AGAIN = (408, 425, 429)
MAX_RESPONSE_BYTES = 8 * 2**20
# What a chat template may add to a message, at most: its marks, and a system prompt of its own.
TEMPLATE_TOKENS = 64


class _Failed(Exception):
    """One attempt gave no answer; another may. `wait_s` is how long the server asks to wait, and
    `usage` what it has counted for an answer that is of no use."""

    def __init__(self, why: str, wait_s: float = 0.0, usage: Usage | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.wait_s = wait_s
        self.usage = usage or Usage()


@dataclass(frozen=True)
class Endpoint:
    """Answers through `<base_url>/chat/completions`, several conversations at a time.

    What fails for a time (no connection, too slow, 408, 425, 429, 5xx, rubbish) is tried again with
    growing waits; what then has no answer is a reply with a failure (`unreachable`, `slow`, `busy`,
    `rubbish`, or `cost` beyond `max_cost`), and too many of them in a row are an error. A request
    that the server refuses for good is an error at once. `ledger` has the sums.

    Where a server does not count its tokens, each byte that was read or said is charged for as one,
    up to `max_new_tokens`, so that `max_cost` and the budget of a play bind there as well.
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
    """What all answers may cost together, in each process; empty for any sum. A request is sent
    only if it fits at its longest, beside those under way, so that `concurrency` oversteps nothing.
    """
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
        if self.max_cost is not None and not (self.prices.read or self.prices.generated):
            raise ValueError(
                "max_cost: nothing costs anything without prices; set prices.read and "
                "prices.generated, for a million tokens, or leave max_cost empty"
            )
        object.__setattr__(self, "ledger", Ledger(self.prices))

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]:
        with (
            httpx.Client(timeout=self.timeout_s) as client,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            replies = list(pool.map(lambda asked: self._answer(client, asked), conversations))
        # What was not asked for want of money says nothing of the server.
        for reply in (r for r in replies if r.failure != "cost"):
            in_a_row = self.ledger.note(bool(reply.failure))
            if in_a_row >= self.max_failures:
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
        taken = Usage()
        for attempt in count():
            try:
                reply = self._attempt(client, conversation, is_retry=attempt > 0)
                return replace(reply, usage=taken + reply.usage)
            except _Failed as failed:
                taken += failed.usage
                if attempt == self.max_retries or failed.why == "cost":
                    self.ledger.add_failure(failed.why)
                    return Reply("", failure=failed.why, usage=taken)
                # Up to a half more, so that those who failed together do not come back together.
                wait_s = self.backoff_s * 2**attempt * random.uniform(1.0, 1.5)
                time.sleep(min(max(wait_s, failed.wait_s), self.max_wait_s))
        raise AssertionError("the last attempt returns")

    def _attempt(self, client: httpx.Client, conversation: Conversation, is_retry: bool) -> Reply:
        most = self._most(conversation)
        if self.max_cost is not None and not self.ledger.admit(most.money, self.max_cost):
            raise _Failed("cost")
        try:
            self.ledger.add_request(is_retry)
            return self._read(self._post(client, conversation, most), most)
        finally:
            if self.max_cost is not None:
                self.ledger.release(most.money)

    def _most(self, conversation: Conversation) -> Usage:
        """What a request may take: no token of what is read is shorter than a byte."""
        read = sum(len(m.content.encode(errors="replace")) for m in conversation)
        read += TEMPLATE_TOKENS * len(conversation)
        return self._priced(Usage(read, self.sampling.max_new_tokens, is_estimated=True))

    def _priced(self, usage: Usage) -> Usage:
        return replace(usage, money=self.prices.of(usage))

    def _post(self, client: httpx.Client, conversation: Conversation, most: Usage) -> bytes:
        """The body of the server's answer. One that was lost on the way may have to be paid."""
        deadline = time.monotonic() + self.timeout_s
        body = b""
        try:
            with client.stream(
                "POST",
                f"{self.base_url.rstrip('/')}/chat/completions",
                json=self._request(conversation),
                headers=self._headers(),
            ) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    # The client's own timeout is for one read; a server may drip for ever.
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("dripping")
                    if len(body) > MAX_RESPONSE_BYTES:
                        raise self._rejected(None, most)
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _Failed("slow") from error
        except httpx.ConnectError as error:
            raise _Failed("unreachable") from error
        except httpx.TimeoutException as error:
            self.ledger.book(None, most)
            raise _Failed("slow") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            self.ledger.book(None, most)
            raise _Failed("unreachable") from error
        self._check(response, body)
        return body

    def _check(self, response: httpx.Response, body: bytes) -> None:
        status = response.status_code
        if status in TRY_AGAIN or status >= 500:
            raise _Failed("busy", asked_wait_s(response.headers.get("retry-after")))
        if status >= 300:
            said = " ".join(self._scrubbed(body.decode("utf-8", "replace")).split())[:300]
            raise ValueError(
                f"{self.base_url}: refused the request with status {status} ({said}); check "
                "base_url, model and api_key_env"
            )

    def _read(self, body: bytes, most: Usage) -> Reply:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._rejected(None, most) from error
        metered = counted_usage(answer)
        try:
            choice = answer["choices"][0]
            text = choice["message"]["content"]
        except (LookupError, TypeError) as error:
            raise self._rejected(metered, most) from error
        if text is not None and not isinstance(text, str):
            raise self._rejected(metered, most)
        self.ledger.add_answer(is_usable=True)
        # Half a character, which no file and no request could hold.
        text = (text or "").encode(errors="replace").decode()
        is_cut = choice.get("finish_reason") == "length"
        if not is_cut:
            most = replace(
                most, generated_tokens=min(most.generated_tokens, bytes_in(choice["message"]))
            )
        usage = self._priced(self.ledger.book(metered, most))
        return Reply(text, is_cut, usage=usage)

    def _rejected(self, metered: Usage | None, most: Usage) -> _Failed:
        """An answer came that is none; it is paid all the same."""
        self.ledger.add_answer(is_usable=False)
        self.ledger.book(metered, most)
        return _Failed("rubbish", usage=metered and self._priced(metered))

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

"""The words of the project as frozen dataclasses and small protocols; nothing here does any work.

A book becomes episodes, an env plays episodes with agents, and every play ends in an outcome:
what was done to the frozen generator before it was asked for the likelihood of the gold chapter.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Split = Literal["train", "validation", "test"]

# The member that is trained, in every env.
POLICY = "policy"
# The writer against whose plain likelihood every improvement is counted.
GENERATOR = "generator"


@dataclass(frozen=True)
class Chapter:
    """One chapter as a reader means it: its heading (may be empty) and its prose."""

    title: str
    text: str

    @property
    def num_words(self) -> int:
        return len(self.text.split())


@dataclass(frozen=True)
class Book:
    """A book as a reader means it: front and back matter are not chapters.

    `book_id` is unique on a shelf and is the unit of every split: a book is never divided
    between training and test.
    """

    book_id: str
    title: str
    author: str
    chapters: tuple[Chapter, ...]


@dataclass(frozen=True)
class Section:
    """One headed part of a context. `hindsight` marks text made from the gold chapter or later."""

    heading: str
    text: str
    hindsight: bool = False


@dataclass(frozen=True)
class StoryContext:
    """x: what may be known before the chapter, as headed sections in reading order."""

    sections: tuple[Section, ...]

    def known_before(self) -> StoryContext:
        """The context without the sections that were made in hindsight."""
        return StoryContext(tuple(s for s in self.sections if not s.hindsight))


@dataclass(frozen=True)
class Episode:
    """One prediction task: story context x, gold next chapter y.

    `episode_id` is `<book_id>/<chapter index>`, the only join key of the project.
    `plans` holds reference plans where the source can name them: `true` (what the chapter really
    does), `inferable` (what a perfect reasoner over x would write) and `true_but_<part>` (the true
    plan with one part spoilt, for ablations). Agents never see them.
    """

    episode_id: str
    context: StoryContext
    chapter: Chapter
    plans: Mapping[str, str] = field(default_factory=dict)

    @property
    def book_id(self) -> str:
        return self.episode_id.rsplit("/", 1)[0]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class Usage:
    """Tokens that one answer took: of the conversation as it was read, and of what was said; the
    money, in the currency of the member's prices, where it has any; and 10^9 operations, 2 ·
    weights · tokens, where its size is known.

    Tokens that nobody counted are the most that it can have taken (`is_estimated`).
    """

    read_tokens: int = 0
    generated_tokens: int = 0
    money: float = 0.0
    giga_operations: float = 0.0
    is_estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.read_tokens + other.read_tokens,
            self.generated_tokens + other.generated_tokens,
            self.money + other.money,
            self.giga_operations + other.giga_operations,
            self.is_estimated or other.is_estimated,
        )


@dataclass(frozen=True)
class Answer:
    """Token ids of one conversation as the model read it, and of what it said.

    `ids` includes the token that ends an answer, unless the length limit came first. `logprobs`
    are the sampler's own, in nats, one for each of `ids`; None where it gives none.
    """

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Reply:
    """An agent's answer. `truncated` says that the length limit cut it, not its author.

    `failure` says in a word why there is no answer (`unreachable`); it is empty where there is one.
    `answer` has the token ids, for whoever learns from them. Replies that say the same are equal.
    """

    text: str
    truncated: bool = False
    failure: str = ""
    usage: Usage = field(default=Usage(), compare=False)
    answer: Answer | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Turn:
    """What one role was asked in a play, and what the member who plays it said.

    Turns of one `round` did not hear each other. Only turns that are trained carry loss: those of
    the policy in a role that learns.
    """

    role: str
    member: str
    prompt: Conversation
    reply: Reply
    is_trained: bool = False
    round: int = 0


@dataclass(frozen=True)
class Cost:
    """What a member has done: answers given, tokens read before them, tokens generated; what that
    cost, in the currency of its prices; 10^9 operations, where its size is known; and for how many
    of the answers tokens are estimated."""

    calls: int = 0
    read_tokens: int = 0
    generated_tokens: int = 0
    money: float = 0.0
    giga_operations: float = 0.0
    estimated_calls: int = 0

    @classmethod
    def of(cls, usage: Usage) -> Cost:
        """That of one answer."""
        took = (usage.read_tokens, usage.generated_tokens, usage.money, usage.giga_operations)
        return cls(1, *took, int(usage.is_estimated))

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.calls + other.calls,
            self.read_tokens + other.read_tokens,
            self.generated_tokens + other.generated_tokens,
            self.money + other.money,
            self.giga_operations + other.giga_operations,
            self.estimated_calls + other.estimated_calls,
        )

    def named(self) -> dict[str, float]:
        """Its numbers by name; money and estimates only where there are any, operations where they
        are known."""
        always = ("calls", "read_tokens", "generated_tokens")
        return {name: value for name, value in vars(self).items() if value or name in always}


def giga_operations(num_weights: int, num_tokens: int) -> float:
    """What a forward pass over these tokens takes: each weight is multiplied and added once."""
    return 2e-9 * num_weights * num_tokens


class PlanStatus(enum.StrEnum):
    """What the parser found in an answer."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    NO_PLAN = "no_plan"


@dataclass(frozen=True)
class Guidance:
    """An outcome that puts text before the gold chapter: the plan, empty if there is none."""

    plan: str


@dataclass(frozen=True)
class Choice:
    """An outcome that hands the chapter to another writer, who sees `plan` if there is one."""

    writer: str
    plan: str = ""


@dataclass(frozen=True)
class Fusion:
    """An outcome in which several writers choose each token of the chapter together.

    `combine` makes one next-token distribution of theirs, in the order of `writers`; it is a
    `rewards.types.Combine`, or a `StateCombine`. A writer may sit there twice; those at the places
    `without_context` read neither the context nor the plan.
    """

    writers: tuple[str, ...]
    combine: Hashable
    plan: str = ""
    without_context: tuple[int, ...] = ()


@dataclass(frozen=True)
class Merge:
    """An outcome in which a writer made of several writers' weights writes; `writer` names it."""

    writer: str
    plan: str = ""


Outcome = Guidance | Choice | Fusion | Merge
"""What a play did to the generator; it always ends in exactly one."""


@dataclass(frozen=True)
class Rollout:
    """One play of one episode: what was said, what was read from it, and how it ended.

    `prompt` and `reply` are those of the last trained turn, or of the last one where none is;
    `turns` are all of them, in order.
    `events` counts what happened beside them: failures (`failed/…`) and why it ended (`ended/…`).
    `measures` are what else the env has to say of it, by name.
    """

    episode: Episode
    prompt: Conversation
    reply: Reply
    status: PlanStatus
    outcome: Outcome
    turns: tuple[Turn, ...] = ()
    events: Mapping[str, int] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_heard(self) -> bool:
        """Whether somebody who learns has spoken; without turns there is the policy's reply."""
        return not self.turns or any(turn.is_trained for turn in self.turns)

    @property
    def costs(self) -> dict[str, Cost]:
        """What the play cost, by member."""
        found: dict[str, Cost] = {}
        for turn in self.turns:
            found[turn.member] = found.get(turn.member, Cost()) + Cost.of(turn.reply.usage)
        return found


class Agent(Protocol):
    """Something that answers a batch of conversations with text."""

    def reply(self, conversations: Sequence[Conversation]) -> list[Reply]: ...


class VoicedAgent(Agent, Protocol):
    """An agent that speaks otherwise in some roles, such as with adapters of their own."""

    @property
    def voices(self) -> Sequence[str]: ...
    def reply_as(self, voice: str, conversations: Sequence[Conversation]) -> list[Reply]: ...


class Env(Protocol):
    """What is played with an episode. Whole batches, so that every model call is batched."""

    def play(self, episodes: Sequence[Episode], policy: Agent) -> list[Rollout]: ...


class Source(Protocol):
    """Books turned into material for every stage of a run; splits are by book.

    `key` names everything that the material depends on, for caching.
    """

    def episodes(self, split: Split) -> list[Episode]:
        """What the policy learns from (`train`), is tuned on and is tested on."""
        ...

    def writing_samples(self) -> list[tuple[Episode, str]]:
        """Training episodes with the plan that the generator sees beside each; empty for none."""
        ...

    def demonstrations(self, marker: str) -> list[tuple[Episode, str]]:
        """Training episodes with an answer in the form of a plan, by chance right or wrong."""
        ...

    def key(self) -> Mapping[str, object]: ...

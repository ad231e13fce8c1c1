"""The id under which `verifiers` and prime-rl find the environment: a top-level module."""

from train.interop.verifiers import (
    NextChapterEnv,
    NextChapterTaskset,
    OneAnswerHarness,
    load_environment,
)

__all__ = ["NextChapterEnv", "NextChapterTaskset", "OneAnswerHarness", "load_environment"]

"""Who takes part in a collaboration, who plays which role, and who of them learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from envs.types import GENERATOR, POLICY, Agent


@dataclass(frozen=True)
class Cast:
    """The members beside the policy, by name, and the roles that they play."""

    members: Mapping[str, Any] = field(default_factory=dict)
    """Agents by name; `envs/members/` has local models and endpoints."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """Which member plays a role; a role that is not named is the policy's."""
    trained: tuple[str, ...] = ()
    """Roles of the policy that learn; empty for all that it plays."""

    def __post_init__(self) -> None:
        for name, owner in ((POLICY, "agent that learns"), (GENERATOR, "frozen writer")):
            if name in self.members:
                raise ValueError(
                    f"env.cast.members.{name}: is the name of the {owner}; choose another"
                )
        for name, member in self.members.items():
            if not hasattr(member, "reply"):
                raise ValueError(
                    f"env.cast.members.{name}: should be an agent; give it a _target_ with the "
                    "import path of one"
                )
        for role, member in self.roles.items():
            if member != POLICY and member not in self.members:
                known = ", ".join([POLICY, *self.members])
                raise ValueError(
                    f"env.cast.roles.{role}: there is no member {member!r}; known: {known}"
                )

    def member_of(self, role: str) -> str:
        return self.roles.get(role, POLICY)

    def is_trained(self, role: str) -> bool:
        return self.member_of(role) == POLICY and (not self.trained or role in self.trained)

    def agent(self, member: str, policy: Agent) -> Agent:
        return policy if member == POLICY else self.members[member]

    def check(self, roles: Sequence[str]) -> None:
        """Refuses roles that the env does not have, and a cast in which nobody learns.

        Raises:
            ValueError: there is one; the message names it.
        """
        for key, named in (("roles", self.roles), ("trained", self.trained)):
            for role in named:
                if role not in roles:
                    raise ValueError(
                        f"env.cast.{key}: there is no role {role!r}; known: {', '.join(roles)}"
                    )
        for role in self.trained:
            if self.member_of(role) != POLICY:
                raise ValueError(
                    f"env.cast.trained: {role!r} is played by {self.member_of(role)!r}, which does "
                    f"not learn; give the role to {POLICY!r}, or take it out"
                )


@dataclass(frozen=True)
class Budget:
    """What one play may cost at most; what would exceed it is not asked, and counted."""

    max_calls: Annotated[int, Field(gt=0)] = 64
    """Answers, of all members together."""
    max_generated_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens generated so far beyond which nobody is asked again; empty for any number."""

"""What an optimiser may choose from: Hydra's sweeps over settings, as distributions of Optuna."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, ValueType

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution  # pyright: ignore[reportMissingImports]


@dataclass(frozen=True)
class Dimension:
    """One setting that is varied.

    `texts` are the values of a choice or a range as they are written; what is chosen is then one's
    place. An interval has none, and what is chosen is the number itself.
    """

    key: str
    distribution: BaseDistribution
    texts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The setting, without the sign that adds it to a config."""
        return self.key.lstrip("+")

    def text(self, chosen: Any) -> str:
        return self.texts[chosen] if self.texts else repr(chosen)

    def chosen(self, text: str) -> Any:
        if self.texts:
            return self.texts.index(text)
        return type(getattr(self.distribution, "low"))(text)  # noqa: B009


def dimension(override: Override) -> Dimension:
    """The setting of an override that varies it.

    Raises:
        ValueError: there is nothing to choose from, or no optimiser can.
    """
    from optuna import distributions  # pyright: ignore[reportMissingImports]

    key, sweep = override.get_key_element(), override.value()
    if isinstance(sweep, IntervalSweep):
        low, high, is_log = sweep.start, sweep.end, "log" in sweep.tags
        assert low is not None and high is not None
        if not low < high or (is_log and low <= 0):
            rule = "rise from above 0" if is_log else "rise"
            raise ValueError(f"{key}: an interval should {rule}; got {low} to {high}")
        kind = (
            distributions.IntDistribution
            if isinstance(low, int) and isinstance(high, int)
            else distributions.FloatDistribution
        )
        return Dimension(key, kind(low, high, log=is_log))
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        raise ValueError(f"{key}: an optimiser wants to be told the choices; write choice(a,b)")
    texts = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if not texts:
        raise ValueError(f"{key}: {override.input_line} has no values; give at least one")
    if isinstance(sweep, RangeSweep):
        # Numbers have neighbours, which names have not.
        return Dimension(key, distributions.IntDistribution(0, len(texts) - 1), texts)
    return Dimension(key, distributions.CategoricalDistribution(range(len(texts))), texts)

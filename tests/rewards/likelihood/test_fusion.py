"""Several distributions, one of them all: by pencil, and by what must hold of any."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from rewards.likelihood.fusion import (
    ContextAware,
    Contrast,
    LinearMixture,
    PlausibleContrast,
    ProductOfExperts,
)
from rewards.likelihood.known import Known, frozen
from rewards.likelihood.routing import ComplementaryRouting, Gate, TokenRouting
from rewards.types import Combine, Mixture, StateCombine


def odds(*weights: float) -> Tensor:
    """Logits of one position whose probabilities are in the ratio of the weights."""
    return torch.tensor([[math.log(w) for w in weights]])


def probabilities(scores: Tensor) -> list[float]:
    return scores.softmax(-1)[0].tolist()


def test_a_product_of_experts_by_pencil() -> None:
    # 1:3 and 1:2 make 1:6; squared, the second makes 1:12.
    two = [odds(1, 3), odds(1, 2)]
    assert probabilities(ProductOfExperts((1.0, 1.0))(two)) == pytest.approx([1 / 7, 6 / 7])
    assert probabilities(ProductOfExperts((1.0, 2.0))(two)) == pytest.approx([1 / 13, 12 / 13])


def test_a_linear_mixture_by_pencil() -> None:
    # 1/4 and 3/4, 1/2 and 1/2, mixed one to three: 7/16 and 9/16. Logits need not be normalised.
    two = [odds(1, 3), odds(5, 5)]
    assert probabilities(LinearMixture((0.25, 0.75))(two)) == pytest.approx([7 / 16, 9 / 16])


def test_a_generator_of_no_weight_has_no_say() -> None:
    ruled_out = torch.tensor([[-math.inf, 0.0]])
    mixed = LinearMixture((1.0, 0.0))([odds(1, 3), ruled_out])
    assert probabilities(mixed) == pytest.approx([1 / 4, 3 / 4])


def test_a_contrast_by_pencil() -> None:
    # Base 1:1, expert 1:6, anti-expert 1:2: 1:3 at alpha 1, 1:9 at alpha 2.
    three = [odds(1, 1), odds(1, 6), odds(1, 2)]
    assert probabilities(Contrast()(three)) == pytest.approx([1 / 4, 3 / 4])
    assert probabilities(Contrast(2.0)(three)) == pytest.approx([1 / 10, 9 / 10])


@pytest.mark.parametrize("combine", [ProductOfExperts((1.0, 1.0)), Contrast()])
def test_combining_changes_no_generators_logits(combine: Combine) -> None:
    logits = [odds(1, 2) for _ in range(3 if isinstance(combine, Contrast) else 2)]
    combine(logits)
    assert all(torch.equal(z, odds(1, 2)) for z in logits)


@pytest.mark.parametrize(
    ("combine", "message"),
    [
        (lambda: LinearMixture((0.5, 0.6)), r"shares that sum to 1; got \[0.5, 0.6\]"),
        (lambda: LinearMixture((1.5, -0.5)), "shares that sum to 1"),
        (lambda: Contrast()([odds(1, 2)]), "1 generators is combined with 3 weights"),
        (lambda: ProductOfExperts((1.0,))([odds(1)] * 2), "2 generators is combined with 1 weight"),
    ],
)
def test_weights_that_make_no_mixture_are_refused(
    combine: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        combine()


def test_context_aware_by_pencil() -> None:
    # With the context 1:3, without it 1:2. At alpha 1, 1:9 over 1:2 makes 2:9.
    two = [odds(1, 3), odds(1, 2)]
    assert probabilities(ContextAware(1.0)(two)) == pytest.approx([2 / 11, 9 / 11])


def test_a_contrast_moves_probability_among_plausible_tokens_alone() -> None:
    # The expert says 10:9:1; the last is under half of the first. Against an amateur that gives the
    # first two 2:1, at alpha 1 they stand as 100/2 to 81/1, and share the 19/20 that they had.
    two = [odds(10, 9, 1), odds(2, 1, 7)]
    found = probabilities(PlausibleContrast(1.0, plausible=0.5)(two))
    assert found == pytest.approx([19 / 20 * 50 / 131, 19 / 20 * 81 / 131, 1 / 20])


def test_a_gate_of_equal_shares_is_a_mixture_of_equal_weights() -> None:
    two = [odds(1, 3), odds(1, 1)]
    gate = Gate(torch.zeros(2, 4), torch.zeros(1, 2))
    routed = TokenRouting(gate).at(torch.randn(1, 4))(two)
    assert probabilities(routed) == pytest.approx([3 / 8, 5 / 8])


def test_a_router_adds_its_own_logits_to_those_of_the_best() -> None:
    # The state (1, -1) is of mean 0 and variance 1 as it is. It chooses the second generator, 1:2,
    # and the router adds ln 3 to the second token: 1:6.
    gate = Gate(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.zeros(1, 2))
    router = ComplementaryRouting(
        gate, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0], [math.log(3)]])
    )
    found = probabilities(router.at(torch.tensor([[1.0, -1.0]]))([odds(1, 9), odds(1, 2)]))
    assert found == pytest.approx([1 / 7, 6 / 7], rel=1e-4)


HIDDEN, VOCABULARY, POSITIONS = 6, 11, 5
GATE = Gate(torch.linspace(-2, 1, 3 * HIDDEN).reshape(3, HIDDEN), torch.tensor([[0.0, 1.0, -1.0]]))
ROUTER = (torch.eye(2, HIDDEN), torch.linspace(-1, 2, 2 * VOCABULARY).reshape(VOCABULARY, 2))


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


COMBINATIONS: list[tuple[Combine | StateCombine, int]] = [
    (ProductOfExperts((0.7, -0.2, 1.5)), 3),
    (LinearMixture((0.2, 0.5, 0.3)), 3),
    (Contrast(0.7), 3),
    (ContextAware(0.5), 2),
    (PlausibleContrast(0.5, 0.3), 2),
    (TokenRouting(GATE), 3),
    (ComplementaryRouting(GATE, *ROUTER), 3),
    (ComplementaryRouting(GATE, *ROUTER, is_hard=False), 3),
]


def scores_of(combine: Combine | StateCombine, logits: list[Tensor], states: Tensor) -> Tensor:
    return (combine.at(states) if isinstance(combine, StateCombine) else combine)(logits)


@pytest.mark.parametrize(("combine", "number"), COMBINATIONS)
def test_probabilities_sum_to_one_and_none_is_zero(
    combine: Combine | StateCombine, number: int
) -> None:
    logits = [3 * torch.randn(POSITIONS, VOCABULARY) for _ in range(number)]
    found = scores_of(combine, logits, torch.randn(POSITIONS, HIDDEN)).double().softmax(-1)
    assert found.sum(-1).tolist() == pytest.approx([1.0] * POSITIONS)
    assert found.min() > 0


@pytest.mark.parametrize("combine", [LinearMixture((0.2, 0.8)), PlausibleContrast(0.5, 0.3)])
def test_mixtures_and_floored_contrasts_are_normalised_as_they_are(combine: Combine) -> None:
    logits = [3 * torch.randn(POSITIONS, VOCABULARY) for _ in range(2)]
    assert combine(logits).logsumexp(-1).tolist() == pytest.approx([0.0] * POSITIONS, abs=1e-6)


@pytest.mark.parametrize(
    ("combine", "number"),
    [(Contrast(0.0), 3), (ContextAware(0.0), 2), (PlausibleContrast(0.0), 2)],
)
def test_alpha_zero_gives_the_base(combine: Combine, number: int) -> None:
    logits = [3 * torch.randn(POSITIONS, VOCABULARY) for _ in range(number)]
    found, base = combine(logits).log_softmax(-1), logits[0].log_softmax(-1)
    assert torch.allclose(found, base, atol=1e-6)


@pytest.mark.parametrize("place", range(3))
def test_one_hot_weights_give_that_member(place: int) -> None:
    logits = [3 * torch.randn(POSITIONS, VOCABULARY) for _ in range(3)]
    weights = tuple(float(i == place) for i in range(3))
    bias = torch.tensor([[40.0 * w for w in weights]])
    gate = Gate(torch.zeros(3, HIDDEN), bias)
    no_router = ComplementaryRouting(gate, torch.zeros(1, HIDDEN), torch.zeros(VOCABULARY, 1))
    member = logits[place].log_softmax(-1)
    for combine in (
        ProductOfExperts(weights),
        LinearMixture(weights),
        TokenRouting(gate),
        no_router,
    ):
        found = scores_of(combine, logits, torch.randn(POSITIONS, HIDDEN)).log_softmax(-1)
        assert torch.allclose(found, member, atol=1e-6), combine


def test_a_gate_is_told_apart_by_its_numbers() -> None:
    numbers = torch.randn(2, 3)
    one, same = (TokenRouting(Gate(Known(numbers), Known(torch.zeros(1, 2)))) for _ in range(2))
    other = TokenRouting(Gate(Known(numbers + 1), Known(torch.zeros(1, 2))))
    assert len({one, same, other}) == 2
    assert repr(Mixture(("a", "b"), one)) == repr(Mixture(("a", "b"), same))
    assert repr(one) != repr(other)


def test_what_was_learned_is_frozen_into_numbers() -> None:
    learned = torch.tensor([0.25, 0.75], requires_grad=True)
    assert frozen(LinearMixture(learned)) == LinearMixture((0.25, 0.75))
    gate = Gate(torch.ones(2, 3, requires_grad=True), torch.zeros(1, 2))
    assert frozen(TokenRouting(gate)).gate.weight_KH == Known(torch.ones(2, 3))
    assert frozen(Contrast(torch.tensor(0.5))) == Contrast(0.5)


@pytest.mark.parametrize(
    ("make", "shapes", "number"),
    [
        (ProductOfExperts, [(3,)], 3),
        (lambda w: LinearMixture(w.softmax(0)), [(3,)], 3),
        (Contrast, [()], 3),
        (ContextAware, [()], 2),
        (lambda alpha: PlausibleContrast(alpha, 0.3), [()], 2),
        (lambda w, b: TokenRouting(Gate(w, b)), [(3, HIDDEN), (1, 3)], 3),
        (
            lambda w, b, down, up: ComplementaryRouting(Gate(w, b), down, up, is_hard=False),
            [(3, HIDDEN), (1, 3), (2, HIDDEN), (VOCABULARY, 2)],
            3,
        ),
    ],
)
def test_the_gradient_of_a_likelihood_is_that_of_finite_differences(
    make: Callable[..., Combine | StateCombine], shapes: list[tuple[int, ...]], number: int
) -> None:
    logits = [torch.randn(POSITIONS, VOCABULARY, dtype=torch.double) for _ in range(number)]
    states = torch.randn(POSITIONS, HIDDEN)

    def nll(*numbers: Tensor) -> Tensor:
        return -scores_of(make(*numbers), logits, states).log_softmax(-1)[:, 3].mean()

    numbers = [torch.randn(shape, requires_grad=True) for shape in shapes]
    nll(*numbers).backward()
    steps = [0.01 * torch.randn(shape) for shape in shapes]
    along = sum((n.grad * step).sum().item() for n, step in zip(numbers, steps, strict=True))
    with torch.no_grad():
        ahead = nll(*(n + step for n, step in zip(numbers, steps, strict=True)))
        behind = nll(*(n - step for n, step in zip(numbers, steps, strict=True)))
    assert (ahead - behind).item() / 2 == pytest.approx(along, rel=0.01, abs=1e-5)

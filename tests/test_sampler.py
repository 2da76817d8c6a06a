"""Each rule against transformers' own logits processors, on random logits."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as theirs

from serving import sampler
from serving.errors import InvalidRequest
from serving.types import SamplingOptions

VOCAB = 3000
HISTORY = np.asarray([5, 17, 17, 999, 2048])


def random_logits(seed: int) -> sampler.Logits:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(VOCAB) * rng.uniform(0.5, 6)).astype(np.float32)


def seen() -> np.ndarray:
    mask = np.zeros(VOCAB, dtype=np.bool_)
    mask[HISTORY] = True
    return mask


def by_transformers(processors: list[theirs.LogitsProcessor], logits: sampler.Logits) -> np.ndarray:
    scores = torch.from_numpy(logits.copy())[None]
    for processor in processors:
        scores = processor(torch.from_numpy(HISTORY)[None], scores)
    return scores[0].numpy()


RULES: dict[str, tuple[theirs.LogitsProcessor, Callable[[sampler.Logits], sampler.Logits]]] = {
    "temperature 0.3": (theirs.TemperatureLogitsWarper(0.3), lambda x: sampler.scale_temperature(x, 0.3)),
    "temperature 1.7": (theirs.TemperatureLogitsWarper(1.7), lambda x: sampler.scale_temperature(x, 1.7)),
    "top_k 1": (theirs.TopKLogitsWarper(1), lambda x: sampler.keep_top_k(x, 1)),
    "top_k 40": (theirs.TopKLogitsWarper(40), lambda x: sampler.keep_top_k(x, 40)),
    "top_k of everything": (theirs.TopKLogitsWarper(VOCAB), lambda x: sampler.keep_top_k(x, VOCAB + 5)),
    "top_p 0.1": (theirs.TopPLogitsWarper(0.1), lambda x: sampler.keep_top_p(x, 0.1)),
    "top_p 0.9": (theirs.TopPLogitsWarper(0.9), lambda x: sampler.keep_top_p(x, 0.9)),
    "top_p 0.999": (theirs.TopPLogitsWarper(0.999), lambda x: sampler.keep_top_p(x, 0.999)),
    "min_p 0.02": (theirs.MinPLogitsWarper(0.02), lambda x: sampler.keep_min_p(x, 0.02)),
    "min_p 0.5": (theirs.MinPLogitsWarper(0.5), lambda x: sampler.keep_min_p(x, 0.5)),
    "repetition_penalty 1.3": (
        theirs.RepetitionPenaltyLogitsProcessor(1.3),
        lambda x: sampler.penalize_repetition(x, seen(), 1.3),
    ),
    "repetition_penalty 0.8": (
        theirs.RepetitionPenaltyLogitsProcessor(0.8),
        lambda x: sampler.penalize_repetition(x, seen(), 0.8),
    ),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(12))
def test_a_rule_does_what_transformers_does(rule: str, seed: int) -> None:
    logits = random_logits(seed)
    processor, ours = RULES[rule]
    np.testing.assert_allclose(ours(logits), by_transformers([processor], logits), rtol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_all_rules_together_come_in_the_order_of_transformers(seed: int) -> None:
    logits = random_logits(seed)
    options = SamplingOptions(temperature=0.7, top_k=50, top_p=0.8, min_p=0.05, repetition_penalty=1.2)
    processors = [
        theirs.RepetitionPenaltyLogitsProcessor(1.2),
        theirs.TemperatureLogitsWarper(0.7),
        theirs.TopKLogitsWarper(50),
        theirs.TopPLogitsWarper(0.8),
        theirs.MinPLogitsWarper(0.05),
    ]
    ours = sampler.processed(logits, options, seen())
    np.testing.assert_allclose(ours, by_transformers(processors, logits), rtol=1e-5)


def test_logits_are_not_modified() -> None:
    logits = random_logits(0)
    before = logits.copy()
    options = SamplingOptions(temperature=0.7, top_k=5, top_p=0.8, min_p=0.05, repetition_penalty=1.2)
    sampler.choose(logits, options, seen(), np.random.default_rng(0))
    np.testing.assert_array_equal(logits, before)


def test_temperature_zero_takes_the_likeliest_token_after_the_penalty() -> None:
    logits = np.full(VOCAB, -1.0, dtype=np.float32)
    logits[[17, 30]] = 2.0, 1.9
    rng = np.random.default_rng(0)
    assert sampler.choose(logits, SamplingOptions(temperature=0.0), seen(), rng) == 17
    assert sampler.choose(logits, SamplingOptions(temperature=0.0, repetition_penalty=1.5), seen(), rng) == 30


def test_the_same_seed_gives_the_same_tokens() -> None:
    def draw(seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        return [sampler.choose(random_logits(i), SamplingOptions(top_p=0.95), seen(), rng) for i in range(40)]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = np.log(
        np.asarray([0.5, 0.0, 0.3, 0.2, 0.0], dtype=np.float32),
        where=[1, 0, 1, 1, 0],
        out=np.full(5, -np.inf, np.float32),
    )
    rng = np.random.default_rng(0)
    drawn = np.bincount(
        [sampler.choose(logits, SamplingOptions(), np.zeros(5, bool), rng) for _ in range(20_000)], minlength=5
    )
    # Five standard deviations of a binomial count at p = 0.5.
    np.testing.assert_allclose(drawn / 20_000, [0.5, 0.0, 0.3, 0.2, 0.0], atol=5 * 0.5 / 20_000**0.5)
    assert drawn[1] == drawn[4] == 0


class LastDraw(np.random.Generator):
    """The largest number that random() can return."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self) -> float:  # type: ignore[override]
        return 1.0 - 2.0**-53


def test_the_largest_draw_still_finds_a_possible_token() -> None:
    for seed in range(50):
        logits = sampler.keep_top_k(random_logits(seed), 7)
        token = sampler.choose(logits, SamplingOptions(), seen(), LastDraw())
        assert logits[token] > -np.inf


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", float("nan")),
        ("min_p", 1.0),
        ("repetition_penalty", 0.0),
        ("seed", -1),
        ("max_tokens", 0),
        ("stop", ("",)),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field} must be "):
        SamplingOptions(**{field: value})  # type: ignore[arg-type]

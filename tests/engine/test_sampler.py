"""Each rule against transformers' own logits processor, on random logits; or against its formula, if it has none."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as theirs

from serving.engine import sampler
from serving.engine.sampler import Logits, Positions, Sampler
from serving.errors import InvalidRequest, ServingError
from serving.types import Choice, Grammar, SamplingOptions, options_from

VOCAB = 3000
PROMPT = np.asarray([5, 17, 17, 999, 2048], dtype=np.int32)
GREEDY = SamplingOptions(temperature=0.0)
LOWEST = np.finfo(np.float32).min
EVERYTHING = SamplingOptions(
    temperature=0.7,
    top_k=50,
    top_p=0.8,
    min_p=0.02,
    typical_p=0.9,
    repetition_penalty=1.2,
    presence_penalty=0.4,
    frequency_penalty=0.3,
    logit_bias=((17, 2.5), (30, -100.0), (7, 1.0)),
    logprobs=5,
)


def random_logits(seed: int, vocab: int = VOCAB) -> Logits:
    """Spread a little or a lot; a few of the tokens are ruled out."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(vocab) * rng.uniform(0.5, 6)).astype(np.float32)
    logits[rng.integers(0, vocab, size=20)] = -np.inf
    return logits


def by_transformers(processors: Sequence[theirs.LogitsProcessor], logits: Logits) -> np.ndarray:
    scores = torch.from_numpy(logits.astype(np.float64))[None]
    for processor in processors:
        scores = processor(torch.from_numpy(PROMPT.astype(np.int64))[None], scores)
    return scores[0].numpy()


def seen() -> np.ndarray:
    mask = np.zeros(VOCAB, dtype=np.bool_)
    mask[PROMPT] = True
    return mask


def unused() -> np.ndarray:
    return np.zeros(VOCAB, dtype=np.float32)


def distribution(logits: Logits, options: SamplingOptions) -> np.ndarray:
    """The probability of each token, [vocab]: what a draw is made from."""
    trail, weights = sampler.truncated(sampler.adjusted(logits, options, seen(), unused()), options)
    tokens = np.arange(logits.size)
    for kept in trail:
        tokens = tokens[kept]
    probabilities = np.zeros(logits.size)
    probabilities[tokens] = weights / weights.sum()
    return probabilities


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.softmax(torch.from_numpy(logits.astype(np.float64)), dim=-1).numpy()


# One rule at a time.

TRUNCATIONS: dict[str, tuple[theirs.LogitsProcessor, Callable[[Logits], Positions]]] = {
    "top_k 1": (theirs.TopKLogitsWarper(1), lambda x: sampler.keep_top_k(x, 1)),
    "top_k 40": (theirs.TopKLogitsWarper(40), lambda x: sampler.keep_top_k(x, 40)),
    "top_k 2000": (theirs.TopKLogitsWarper(2000), lambda x: sampler.keep_top_k(x, 2000)),
    "top_p 0.1": (theirs.TopPLogitsWarper(0.1), lambda x: sampler.keep_top_p(sampler.weigh(x, 1.0), 0.1)),
    "top_p 0.9": (theirs.TopPLogitsWarper(0.9), lambda x: sampler.keep_top_p(sampler.weigh(x, 1.0), 0.9)),
    "top_p 0.999": (theirs.TopPLogitsWarper(0.999), lambda x: sampler.keep_top_p(sampler.weigh(x, 1.0), 0.999)),
    "min_p 0.02": (theirs.MinPLogitsWarper(0.02), lambda x: sampler.keep_min_p(sampler.weigh(x, 1.0), 0.02)),
    "min_p 0.5": (theirs.MinPLogitsWarper(0.5), lambda x: sampler.keep_min_p(sampler.weigh(x, 1.0), 0.5)),
    "typical_p 0.1": (theirs.TypicalLogitsWarper(0.1), lambda x: sampler.keep_typical_p(sampler.weigh(x, 1.0), 0.1)),
    "typical_p 0.7": (theirs.TypicalLogitsWarper(0.7), lambda x: sampler.keep_typical_p(sampler.weigh(x, 1.0), 0.7)),
    "typical_p 0.98": (theirs.TypicalLogitsWarper(0.98), lambda x: sampler.keep_typical_p(sampler.weigh(x, 1.0), 0.98)),
}


@pytest.mark.parametrize("rule", TRUNCATIONS)
@pytest.mark.parametrize("seed", range(12))
def test_a_truncation_keeps_what_transformers_keeps(rule: str, seed: int) -> None:
    processor, ours = TRUNCATIONS[rule]
    for vocab in (VOCAB, 40_003):
        logits = random_logits(seed, vocab)
        np.testing.assert_array_equal(ours(logits), np.flatnonzero(np.isfinite(by_transformers([processor], logits))))


@pytest.mark.parametrize("rule", ["top_k 1", "top_k 40", "top_k 2000", "min_p 0.02", "typical_p 0.7", "typical_p 0.98"])
def test_ties_are_kept_where_transformers_keeps_them(rule: str) -> None:
    processor, ours = TRUNCATIONS[rule]
    for seed in range(12):
        logits = np.round(random_logits(seed) * 2) / 2
        np.testing.assert_array_equal(ours(logits), np.flatnonzero(np.isfinite(by_transformers([processor], logits))))


@pytest.mark.parametrize("p", [1e-300, 0.05, 0.5, 0.95, 1 - 1e-12])
@pytest.mark.parametrize("steps", [0.0, 0.5, 1000.0])  # all equal, many ties, hardly any
def test_top_p_keeps_the_smallest_set_that_reaches_p(p: float, steps: float) -> None:
    logits = np.round(random_logits(3) * steps) / steps if steps else np.zeros(VOCAB, np.float32)
    weights = sampler.weigh(logits, 1.0)
    probabilities = softmax(logits)
    kept = sampler.keep_top_p(weights, p)
    assert probabilities[kept].sum() >= p - 1e-12
    assert np.sort(probabilities[kept])[1:].sum() < p
    assert probabilities[kept].min() >= np.delete(probabilities, kept).max(initial=0.0)


def test_top_k_of_more_than_there_are_keeps_all() -> None:
    assert sampler.keep_top_k(random_logits(0), VOCAB + 5).size == VOCAB


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_weights_are_the_softmax_at_that_temperature(temperature: float) -> None:
    weights = sampler.weigh(random_logits(1), temperature)
    expected = by_transformers([theirs.TemperatureLogitsWarper(temperature)], random_logits(1))
    np.testing.assert_allclose(weights / weights.sum(), softmax(expected), rtol=1e-12)


@pytest.mark.parametrize("penalty", [0.8, 1.3])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    for seed in range(12):
        ours = sampler.penalize_repetition(random_logits(seed), seen(), penalty)
        expected = by_transformers([theirs.RepetitionPenaltyLogitsProcessor(penalty)], random_logits(seed))
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_presence_and_frequency_penalties_follow_their_formula() -> None:
    logits, counts = random_logits(2), np.random.default_rng(2).integers(0, 4, VOCAB)
    ours = sampler.penalize_counts(logits, counts.astype(np.float32), frequency=0.7, presence=-1.1)
    expected = [
        logit - count * 0.7 - (1 if count > 0 else 0) * -1.1 for logit, count in zip(logits, counts, strict=True)
    ]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


# All rules together.


@pytest.mark.parametrize("seed", range(12))
def test_all_rules_together_come_in_the_order_of_transformers(seed: int) -> None:
    processors = [
        theirs.SequenceBiasLogitsProcessor([[[token], bias] for token, bias in EVERYTHING.logit_bias]),
        theirs.RepetitionPenaltyLogitsProcessor(1.2),
        theirs.TemperatureLogitsWarper(0.7),
        theirs.TopKLogitsWarper(50),
        theirs.TopPLogitsWarper(0.8),
        theirs.MinPLogitsWarper(0.02),
        theirs.TypicalLogitsWarper(0.9),
    ]
    logits = random_logits(seed)
    expected = softmax(by_transformers(processors, logits))
    np.testing.assert_allclose(distribution(logits, EVERYTHING), expected, rtol=1e-5)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = random_logits(4, 300)
    options = SamplingOptions(temperature=0.8, top_k=60, top_p=0.95, seed=1)
    chooser, draws = Sampler(options, PROMPT, 300), 20_000
    counts = np.bincount([chooser.choose(logits).token for _ in range(draws)], minlength=300)
    expected = draws * distribution(logits, options)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    surprise = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = possible.sum() - 1
    assert freedom > 10
    assert surprise < freedom + 5 * (2 * freedom) ** 0.5  # five standard deviations of chi-square


@pytest.mark.parametrize("size", [1, 511, 512, 513, 4000])
def test_draws_that_are_evenly_spread_hit_each_position_in_proportion(size: int) -> None:
    weights = np.random.default_rng(size).exponential(size=size)
    weights[1::3] = 0.0
    draws = 20_000
    hits = np.bincount([sampler.drawn(weights, (i + 0.5) / draws) for i in range(draws)], minlength=size)
    np.testing.assert_allclose(hits, draws * weights / weights.sum(), atol=1.0)


@pytest.mark.parametrize("draw", [0.0, 1.0 - 2.0**-53])
def test_the_first_and_the_last_draw_find_a_possible_token(draw: float) -> None:
    for seed in range(200):
        rng = np.random.default_rng(seed)
        weights = rng.exponential(size=1500) * (rng.random(1500) < 0.01)
        assert weights[sampler.drawn(weights, draw)] > 0


# One answer.


def chosen(options: SamplingOptions, rows: Sequence[Logits], prompt: np.ndarray = PROMPT) -> list[int]:
    chooser = Sampler(options, prompt, rows[0].size)
    return [chooser.choose(row).token for row in rows]


def test_the_same_seed_gives_the_same_tokens() -> None:
    rows = [random_logits(i) for i in range(40)]
    assert chosen(SamplingOptions(top_p=0.95, seed=3), rows) == chosen(SamplingOptions(top_p=0.95, seed=3), rows)
    assert chosen(SamplingOptions(top_p=0.95, seed=3), rows) != chosen(SamplingOptions(top_p=0.95, seed=4), rows)


def test_what_is_drawn_depends_on_the_seed_and_the_position_only() -> None:
    one, other = [random_logits(i) for i in range(10)], [random_logits(100 + i) for i in range(10)]
    sure = np.full(VOCAB, -np.inf, dtype=np.float32)
    sure[9] = 0.0
    same = [random_logits(1000 + i) for i in range(20)]
    options = SamplingOptions(seed=5)
    endings = [chosen(options, [*rows, *same])[10:] for rows in (one, other, [sure] * 10)]
    assert endings[0] == endings[1] == endings[2]
    assert endings[0] != chosen(options, same)  # at other positions, other draws


def test_without_a_seed_answers_differ() -> None:
    rows = [random_logits(i) for i in range(40)]
    assert chosen(SamplingOptions(), rows) != chosen(SamplingOptions(), rows)


def test_logits_are_not_modified() -> None:
    for options in (EVERYTHING, SamplingOptions(), replace(EVERYTHING, temperature=0.0)):
        logits = random_logits(0)
        chosen(options, [logits, logits])
        np.testing.assert_array_equal(logits, random_logits(0))


def small(*logits: float) -> Logits:
    return np.asarray(logits, dtype=np.float32)


def test_greedy_takes_the_likeliest_token_and_of_equals_the_first() -> None:
    assert chosen(GREEDY, [small(1, 3, 2, 3)], PROMPT[:0]) == [1]


def test_greedy_heeds_the_repetition_penalty_for_prompt_and_answer() -> None:
    options = replace(GREEDY, repetition_penalty=1.5)
    assert chosen(options, [small(2.0, 1.9, 1.3)] * 4, np.asarray([0], np.int32)) == [1, 0, 0, 0]
    assert chosen(options, [small(-2.0, -2.1, -9.0)] * 2, np.asarray([0], np.int32)) == [1, 0]


def test_the_frequency_penalty_counts_each_time_a_token_came_in_the_answer() -> None:
    options = replace(GREEDY, frequency_penalty=0.2)
    # 2.0 and 1.7: 2.0, 1.8 (of 0); 1.7 (of 1); 1.6 (of 0); 1.5 (of 1); 1.4 (of 0). The prompt's zeros do not count.
    assert chosen(options, [small(2.0, 1.7, 0.0)] * 6, np.zeros(9, np.int32)) == [0, 0, 1, 0, 1, 0]


def test_the_presence_penalty_is_taken_once() -> None:
    options = replace(GREEDY, presence_penalty=0.5)
    assert chosen(options, [small(2.0, 1.7, 0.0)] * 4, np.zeros(9, np.int32)) == [0, 1, 0, 0]


def test_a_bias_is_added_before_sampling_and_for_greedy_decoding() -> None:
    assert chosen(replace(GREEDY, logit_bias=((2, 1.5),)), [small(2, 1, 1)]) == [2]
    row = small(5, 0, 5)
    drawn = chosen(SamplingOptions(seed=0, logit_bias=((0, -100.0), (2, -100.0))), [row] * 50)
    assert set(drawn) == {1}
    assert set(chosen(SamplingOptions(seed=0, logit_bias=((1, 100.0),)), [row] * 50)) == {1}


def test_a_bias_on_a_token_that_the_model_does_not_have_is_refused() -> None:
    Sampler(SamplingOptions(logit_bias=((VOCAB - 1, 1.0),)), PROMPT, VOCAB)
    with pytest.raises(InvalidRequest, match=f"^logit_bias names token {VOCAB}, but .* is {VOCAB - 1}"):
        Sampler(SamplingOptions(logit_bias=((3, 1.0), (VOCAB, 1.0))), PROMPT, VOCAB)


def test_a_prompt_token_that_the_model_cannot_answer_with_is_passed_over() -> None:
    options = replace(GREEDY, repetition_penalty=2.0)
    assert chosen(options, [small(3, 2, 0)], np.asarray([0, 3, 70], np.int32)) == [1]


@pytest.mark.parametrize("temperature", [5e-324, 1e-46, 1e-10])
def test_a_temperature_near_zero_is_nearly_greedy(temperature: float) -> None:
    rows = [random_logits(i) for i in range(5)]
    assert chosen(SamplingOptions(temperature=temperature), rows) == chosen(GREEDY, rows)


def test_the_lowest_number_that_there_is_may_be_penalized() -> None:
    row = np.full(VOCAB, LOWEST, dtype=np.float32)
    row[8] = 0.0
    assert chosen(replace(EVERYTHING, repetition_penalty=10.0), [row] * 3) == [8, 8, 8]


# A grammar, scripted.


class Script:
    """Allows what it is told to, position by position."""

    def __init__(self, *allowed: Sequence[int]) -> None:
        self.script = list(allowed)
        self.accepted: list[int] = []

    def allowed(self) -> Positions:
        return np.asarray(self.script[len(self.accepted)], dtype=np.intp)

    def accept(self, token: int) -> None:
        self.accepted.append(token)


@pytest.mark.parametrize("options", [GREEDY, SamplingOptions(seed=1), replace(EVERYTHING, seed=1)])
def test_only_what_the_grammar_allows_is_chosen_and_told_back(options: SamplingOptions) -> None:
    script = Script([3, 999, 2001], [4], [17, 18, 19], range(1000, 2000))
    chooser = Sampler(options, PROMPT, VOCAB, script)  # type: ignore[arg-type]
    tokens = [chooser.choose(random_logits(i)).token for i in range(4)]
    assert tokens == script.accepted
    assert all(token in allowed for token, allowed in zip(tokens, script.script, strict=True))


def test_what_is_drawn_under_a_grammar_follows_the_model() -> None:
    row = np.log(small(0.1, 0.2, 0.3, 0.4))
    script = Script(*[[0, 2]] * 4000)
    chooser = Sampler(SamplingOptions(seed=0), PROMPT[:0], 4, script)  # type: ignore[arg-type]
    share = np.mean([chooser.choose(row).token == 2 for _ in range(4000)])
    assert abs(share - 0.75) < 5 * (0.75 * 0.25 / 4000) ** 0.5


@pytest.mark.parametrize("options", [GREEDY, EVERYTHING])
@pytest.mark.parametrize("allowed", [[], [2], [2, 3]])
def test_no_token_left_is_an_error(options: SamplingOptions, allowed: list[int]) -> None:
    row = random_logits(0)
    row[[2, 3]] = -np.inf
    script = Script(allowed)
    with pytest.raises(ServingError, match="no token is left to choose"):
        Sampler(options, PROMPT, VOCAB, script).choose(row)  # type: ignore[arg-type]
    assert script.accepted == []


@pytest.mark.parametrize("options", [GREEDY, EVERYTHING, SamplingOptions()])
@pytest.mark.parametrize(("value", "where"), [(np.nan, 7), (np.inf, 7), (-np.inf, slice(None)), (np.nan, slice(None))])
def test_logits_that_are_not_numbers_are_an_error(options: SamplingOptions, value: float, where: int | slice) -> None:
    row = random_logits(0)
    row[where] = value
    with pytest.raises(ServingError, match=rf"largest logit is {value}"):
        chosen(options, [row])


# Log-probabilities.


def choice(options: SamplingOptions, row: Logits) -> Choice:
    return Sampler(options, PROMPT, row.size).choose(row)


@pytest.mark.parametrize("options", [EVERYTHING, replace(GREEDY, logprobs=5, logit_bias=((44, 100.0),))])
def test_logprobs_are_the_models_own_whatever_the_options(options: SamplingOptions) -> None:
    for seed in range(12):
        row = random_logits(seed)
        expected = torch.log_softmax(torch.from_numpy(row.astype(np.float64)), dim=-1)
        values, tokens = torch.topk(expected, 5)
        made = choice(replace(options, seed=seed), row)
        assert made.logprob == pytest.approx(float(expected[made.token]), rel=1e-12)
        assert [token for token, _ in made.top] == tokens.tolist()
        assert [logprob for _, logprob in made.top] == pytest.approx(values.tolist(), rel=1e-12)


def test_logprobs_are_given_only_where_asked_for() -> None:
    row = random_logits(0)
    assert choice(GREEDY, row) == Choice(int(row.argmax()), None, ())
    made = choice(replace(GREEDY, logprobs=0), row)
    assert made.logprob is not None
    assert made.top == ()


def test_equal_alternatives_come_in_the_order_of_their_ids_and_impossible_ones_not_at_all() -> None:
    row = np.full(200, 1.0, dtype=np.float32)
    assert [token for token, _ in choice(replace(GREEDY, logprobs=3), row).top] == [0, 1, 2]
    row[:] = -np.inf
    row[[70, 9]] = 0.5, 2.0
    assert [token for token, _ in choice(replace(GREEDY, logprobs=3), row).top] == [9, 70]


# The options.


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
        ("typical_p", 0.0),
        ("typical_p", 1.1),
        ("typical_p", float("nan")),
        ("repetition_penalty", 0.0),
        ("presence_penalty", 2.1),
        ("presence_penalty", float("nan")),
        ("frequency_penalty", -2.1),
        ("logit_bias", ((5, 1.0), (-1, 1.0))),
        ("logit_bias", ((5, 100.5),)),
        ("logit_bias", ((5, float("nan")),)),
        ("logit_bias", ((5, 1.0), (6, 1.0), (5, 2.0))),
        ("logprobs", -1),
        ("logprobs", 21),
        ("seed", -1),
        ("max_tokens", -1),
        ("stop", ("",)),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field} must be "):
        SamplingOptions(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "text", "field"),
    [("json_object", "{}", "text"), ("regex", "", "text"), ("json_schema", "", "text"), ("yaml", "a: b", "kind")],
)
def test_a_grammar_that_says_nothing_or_too_much_is_refused(kind: str, text: str, field: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^grammar\.{field} must be "):
        Grammar(kind, text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        SamplingOptions(),
        replace(EVERYTHING, seed=2**63 - 1, stop=("END", "\n"), max_tokens=7, grammar=Grammar("regex", "[aé]+")),
        SamplingOptions(grammar=Grammar("json_object"), logprobs=0),
        SamplingOptions(min_tokens=3, ignore_eos=True, stop_token_ids=(4, 5), include_stop=True, bad_words=("a",)),
    ],
)
def test_options_survive_json(options: SamplingOptions) -> None:
    back = options_from(json.loads(json.dumps(asdict(options))))
    assert back == options
    assert hash(back) == hash(options)  # tuples have stayed tuples

"""Logits -> token: pure numpy, one function per rule, in the order in which transformers applies them.

1. Over the whole vocabulary, float32 [vocab]: logit_bias, repetition_penalty, frequency and presence penalties.
   transformers has the first two, in this order; the last two come where vLLM has them.
2. What may not come: ends that come too soon, and the last tokens of bad words.
3. The grammar, which names the tokens that may come next. What 1 and 2 did to the others is then of no importance.
4. Temperature, then top_k, top_p, min_p and typical_p. Each sees only what the one before it has left, as float64.
5. One draw. Greedy decoding takes the largest logit after 3 instead.

A rule whose option is switched off is not called.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.errors import InvalidRequest, ServingError
from serving.types import Choice, SamplingOptions, TokenIds

if TYPE_CHECKING:
    from serving.engine.following import Following

Logits = NDArray[np.float32]
Weights = NDArray[np.float64]  # proportional to probabilities
Positions = NDArray[np.intp]

_BLOCK = 512  # weights that are added up before their block is looked into
_RANGES = 1024  # of keys, of which only one is sorted
_ROWS = 64  # that the logits are laid in; the largest of each column bounds the k-th largest of all


class Sampler:
    """Chooses the tokens of one answer, one after the other.

    prompt: the prompt's token ids [n]. vocab_size: of the logits, which may have more rows than the tokenizer tokens.
    grammar: how far the answer has come in `options.grammar`. end_ids: what the model ends its turn with. banned:
    tokens that never come one after the other.
    Raises InvalidRequest where the options name a token that the model does not have.
    """

    def __init__(
        self,
        options: SamplingOptions,
        prompt: TokenIds,
        vocab_size: int,
        grammar: "Following | None" = None,
        end_ids: Collection[int] = (),
        banned: Collection[Sequence[int]] = (),
    ) -> None:
        named = {"logit_bias": [token for token, _ in options.logit_bias], "stop_token_ids": options.stop_token_ids}
        for name, tokens in named.items():
            if max(tokens, default=0) >= vocab_size:
                raise InvalidRequest(
                    f"{name} names token {max(tokens)}, but this model's last token is {vocab_size - 1}."
                )
        self._all = np.arange(vocab_size)
        self._end_ids = _within(end_ids, vocab_size)
        self._all_ends = _within({*end_ids, *options.stop_token_ids}, vocab_size)
        self._banned = [word for word in banned if max(word) < vocab_size]
        self._answer: list[int] = []
        self._options = options
        self.grammar = grammar
        self._rng = np.random.default_rng(options.seed)
        self._seen = np.zeros(vocab_size, dtype=np.bool_)
        self._seen[prompt[prompt < vocab_size]] = True  # a few models embed more tokens than they can answer with
        self._counts = np.zeros(vocab_size, dtype=np.float32)

    def choose(self, logits: Logits, reasoning: bool = False, forced: int | None = None) -> Choice:
        """The next token, which from here on counts as part of the answer.

        logits: float32 [vocab], not modified. -inf rules a token out.
        reasoning: the answer proper has not begun, nor has its grammar. forced: the token, where it is not chosen.
        One uniform number is drawn per call, for greedy decoding too: the n-th draw of an answer is a function of the
        seed and of n alone. Ties of greedy decoding go to the lowest token id.
        Raises ServingError where no token is left to choose, or the logits are not numbers.
        """
        check_numbers(logits)
        draw = self._rng.random()
        if forced is not None:
            self._record(forced, reasoning)
            return self._choice(forced, logits)
        tokens, left = self._all, adjusted(logits, self._options, self._seen, self._counts)
        if self.grammar is not None:
            tokens = self._within_reasoning if reasoning else self.grammar.allowed()
        if (barred := self._barred(tokens)).size:
            left = left.copy()
            left[barred] = -np.inf
        if self.grammar is not None:
            left = left[tokens]
        if left.size == 0 or left.max() == -np.inf:
            raise ServingError(
                "no token is left to choose: the model gives none of those that the grammar, logit_bias and bad_words "
                "allow any chance. Loosen the grammar, or leave out logit_bias and bad_words."
            )
        if self._options.temperature == 0.0:
            token = int(tokens[left.argmax()])
        else:
            trail, weights = truncated(left, self._options)
            position = drawn(weights, draw)
            for kept in reversed(trail):
                position = int(kept[position])
            token = int(tokens[position])
        choice = self._choice(token, logits)
        self._record(token, reasoning)
        return choice

    @cached_property
    def _within_reasoning(self) -> Positions:
        """Ids, ascending, of the tokens that may come before the grammar begins [n]: all that do not end the answer."""
        return np.delete(self._all, self._end_ids)

    def _barred(self, tokens: Positions) -> Positions:
        """Which tokens may not come now; an end may where the grammar allows nothing else. tokens: those it allows."""
        words = [word[-1] for word in self._banned if self._answer[len(self._answer) - len(word) + 1 :] == [*word[:-1]]]
        ends = self._end_ids if self._options.ignore_eos else self._all_ends[:0]
        if len(self._answer) < self._options.min_tokens:
            ends = self._all_ends
        if tokens.size <= ends.size and np.isin(tokens, ends).all():
            ends = ends[:0]
        return np.concatenate([ends, np.asarray(words, dtype=np.intp)])

    def _record(self, token: int, reasoning: bool) -> None:
        if self.grammar is not None and not reasoning:
            self.grammar.accept(token)
        self._seen[token] = True
        self._counts[token] += 1
        self._answer.append(token)

    def _choice(self, token: int, logits: Logits) -> Choice:
        if self._options.logprobs is None:
            return Choice(token)
        return scored(token, logits, self._options.logprobs)


def _within(tokens: Iterable[int], vocab_size: int) -> Positions:
    return np.asarray(sorted(token for token in tokens if token < vocab_size), dtype=np.intp)


def check_numbers(logits: Logits) -> None:
    """Raises ServingError where logits, of any shape, are not numbers."""
    largest = logits.max()  # NaN, if there is one
    if not np.isfinite(largest):
        raise ServingError(
            f"the model's largest logit is {largest}, so no token can be chosen. The export may be broken: "
            "build the model again with --rebuild."
        )


def scored(token: int, logits: Logits, count: int) -> Choice:
    """A token with its log-probability under logits [vocab], and those of the `count` likeliest."""
    top = likeliest(logits, count)
    # The sum is taken over logits that begin at 0, so it neither overflows nor loses digits.
    shifted = logits.astype(np.float64) - float(logits.max())
    logprobs = shifted[[token, *top]] - np.log(np.exp(shifted).sum())
    pairs = zip(top.tolist(), logprobs[1:].tolist(), strict=True)
    return Choice(token, float(logprobs[0]), tuple(pairs))


def adjusted(logits: Logits, options: SamplingOptions, seen: NDArray[np.bool_], counts: NDArray[np.float32]) -> Logits:
    """What is done to each logit by itself. seen: tokens of prompt and answer; counts: of the answer; both [vocab]."""
    if options.logit_bias:
        logits = logits.copy()
        for token, bias in options.logit_bias:
            logits[token] += np.float32(bias)
    if options.repetition_penalty != 1.0:
        logits = penalize_repetition(logits, seen, options.repetition_penalty)
    if options.frequency_penalty != 0.0 or options.presence_penalty != 0.0:
        logits = penalize_counts(logits, counts, options.frequency_penalty, options.presence_penalty)
    return logits


def penalize_repetition(logits: Logits, seen: NDArray[np.bool_], penalty: float) -> Logits:
    """Make the tokens marked in `seen` [vocab] less likely (CTRL, arXiv:1909.05858)."""
    tokens = np.flatnonzero(seen)
    values = logits[tokens]
    penalized = logits.copy()
    with np.errstate(over="ignore"):  # a token that is all but ruled out becomes one that is
        penalized[tokens] = np.where(values < 0, values * np.float32(penalty), values / np.float32(penalty))
    return penalized


def penalize_counts(logits: Logits, counts: NDArray[np.float32], frequency: float, presence: float) -> Logits:
    """Make the tokens of the answer less likely: by `frequency` each time they came, by `presence` if they came at all.

    counts: how often each token came, [vocab]. As in OpenAI's API reference, "frequency and presence penalties".
    """
    penalized: Logits = logits - np.float32(frequency) * counts - np.float32(presence) * (counts > 0)
    return penalized


def truncated(logits: Logits, options: SamplingOptions) -> tuple[list[Positions], Weights]:
    """Temperature and truncation of logits [n]: the weights [m] of what is left.

    Before them, for each rule, the positions that it kept of those that the rule before it had left.
    """
    trail: list[Positions] = []
    if options.top_k > 0:  # the same at every temperature, and cheaper before weighing
        trail.append(keep_top_k(logits, options.top_k))
        logits = logits[trail[-1]]
    weights = weigh(logits, options.temperature)
    if options.top_p < 1.0:
        trail.append(keep_top_p(weights, options.top_p))
        weights = weights[trail[-1]]
    if options.min_p > 0.0:
        trail.append(keep_min_p(weights, options.min_p))
        weights = weights[trail[-1]]
    if options.typical_p < 1.0:
        trail.append(keep_typical_p(weights, options.typical_p))
        weights = weights[trail[-1]]
    return trail, weights


def keep_top_k(logits: Logits, k: int) -> Positions:
    """Positions of the k largest logits, and of what ties with the k-th."""
    return np.flatnonzero(logits >= _kth_largest(logits, k))


def weigh(logits: Logits, temperature: float) -> Weights:
    """exp(logits / temperature), the largest being 1. The temperature is above 0: greedy decoding weighs nothing."""
    weights: Weights = np.subtract(logits, logits.max(), dtype=np.float64)
    if temperature != 1.0:
        with np.errstate(over="ignore"):  # far below the largest at a temperature near 0: as good as ruled out
            weights /= temperature
    return np.exp(weights, out=weights)


def keep_top_p(weights: Weights, p: float) -> Positions:
    """Positions of the smallest set of most likely tokens whose probability adds up to p (arXiv:1904.09751)."""
    total = weights.sum()
    # All tokens less likely than (1 - p) / n together weigh less than 1 - p, so none of them is needed. Half of that is
    # on the safe side of rounding, and leaves a few thousand of 152,000 where the model is sure of itself.
    candidates = np.flatnonzero(weights > 0.5 * (1.0 - p) / weights.size * total)
    weights = weights[candidates]
    keys = np.log(weights)
    return candidates[_first_to_reach(p * total, np.negative(keys, out=keys), weights)]


def keep_min_p(weights: Weights, min_p: float) -> Positions:
    """Positions of tokens at least `min_p` times as likely as the most likely one (arXiv:2407.01082)."""
    return np.flatnonzero(weights >= weights.max() * min_p)


def keep_typical_p(weights: Weights, p: float) -> Positions:
    """Positions of the tokens nearest to the expected surprise whose probability adds up to p (arXiv:2202.00666).

    A token's surprise is -log of its probability; the expected surprise is the entropy. What ties with the last token
    kept is kept too.
    """
    possible = np.flatnonzero(weights > 0.0)
    probabilities = weights[possible]
    probabilities /= probabilities.sum()
    log_probabilities = np.log(probabilities)
    log_probabilities -= probabilities @ log_probabilities
    distance = np.abs(log_probabilities, out=log_probabilities)
    nearest = _first_to_reach(p, distance, probabilities)
    return possible[np.flatnonzero(distance <= distance[nearest].max())]


def drawn(weights: Weights, draw: float) -> int:
    """The position that `draw`, uniform in [0, 1), falls on when positions are laid end to end by their weight."""
    # Adding up 152,000 weights one by one takes 0.5 ms; numpy adds up blocks of them ten times as fast.
    ends = np.cumsum(np.add.reduceat(weights, np.arange(0, weights.size, _BLOCK)))
    target = draw * ends[-1]  # below the total, so the block found there has a weight above zero
    block = int(np.searchsorted(ends, target, side="right"))
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK]
    target -= ends[block - 1] if block else 0.0
    position = int(np.searchsorted(np.cumsum(inside), target, side="right"))
    # Rounding may carry the target past the block's last weight.
    return block * _BLOCK + min(position, int(np.flatnonzero(inside)[-1]))


def likeliest(logits: Logits, n: int) -> Positions:
    """Positions of the n largest logits, largest first, ties by position. Fewer where others are ruled out (-inf)."""
    if n == 0:
        return np.empty(0, dtype=np.intp)
    positions = keep_top_k(logits, n)
    positions = positions[logits[positions] > -np.inf]
    return positions[np.argsort(-logits[positions], kind="stable")[:n]]


def _kth_largest(logits: Logits, k: int) -> float:
    """The k-th largest of logits [n], or the smallest where there are fewer."""
    columns = logits.size // _ROWS
    if k < columns:
        # The k-th largest of some of the logits is at most the k-th largest of all: what is below it cannot count.
        # Each column gives its largest, and selecting among those is far cheaper than among all.
        largest = logits[: columns * _ROWS].reshape(_ROWS, columns).max(axis=0)
        logits = logits[logits >= np.partition(largest, columns - k)[columns - k]]
    k = min(k, logits.size)
    return float(np.partition(logits, logits.size - k)[logits.size - k])


def _first_to_reach(mass: float, keys: NDArray[np.float64], weights: Weights) -> Positions:
    """Positions, taken by ascending key until their weight reaches `mass`; of equal keys, the last come first.

    Sorting 152,000 keys takes 10 ms. So the weights are summed over ranges of keys, and only the range in which the
    mass is reached is sorted.
    """
    scaled = keys - keys.min()
    width = scaled.max() / _RANGES
    if width > 0.0:
        scaled /= width
    ranges = scaled.astype(np.intp)
    reached = np.cumsum(np.bincount(ranges, weights=weights))
    # Rounding may leave the whole a little below a mass near 1: then the last range is taken whole.
    last = min(int(np.searchsorted(reached, mass)), reached.size - 1)
    within = np.flatnonzero(ranges == last)[::-1]
    within = within[np.argsort(keys[within], kind="stable")]
    so_far = (reached[last - 1] if last else 0.0) + np.cumsum(weights[within])
    taken = ranges < last
    taken[within[: np.searchsorted(so_far, mass) + 1]] = True
    return np.flatnonzero(taken)

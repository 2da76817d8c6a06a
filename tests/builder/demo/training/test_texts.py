"""The conversations that a build reads are those of the corpus."""

import pytest

from builder import demo
from builder.demo.training.texts import COUNTS, text


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_corpus_makes_exactly_the_files_that_are_shipped(split: demo.Split) -> None:
    shipped = demo.TEXTS[split].read_text(encoding="utf-8")
    assert shipped == text(split), "run python -m builder.demo.training.texts"
    assert len(list(demo.conversations(split))) == COUNTS[split]

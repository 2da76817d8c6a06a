"""The steps that a tokenizer's normalizer, pre-tokenizer and decoder are put together from."""

import json
from collections.abc import Iterator
from typing import Any

Step = dict[str, Any]


def steps_of(part: Any) -> list[Step]:
    """The steps of a normalizer, pre-tokenizer or decoder of `tokenizers`, in their order; none of None."""
    return list(steps_in(json.loads(part.__getstate__()))) if part else []


def steps_in(spec: Step | None) -> Iterator[Step]:
    """The steps in that part of a tokenizer.json."""
    if spec is None:
        return
    for name in ("normalizers", "pretokenizers", "decoders"):
        if name in spec:
            for each in spec[name]:
                yield from steps_in(each)
            return
    yield spec

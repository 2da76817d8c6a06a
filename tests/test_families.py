"""What is known of the families agrees with the two libraries that it is meant for."""

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

from builder.errors import UnsupportedModel
from builder.families import BROKEN, FAMILIES, family_of


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_supported_family_is_found_and_is_not_called_broken(model_type: str) -> None:
    assert family_of(model_type) is FAMILIES[model_type]
    assert model_type not in BROKEN


@pytest.mark.parametrize("model_type", sorted(BROKEN))
def test_a_broken_family_is_refused_with_its_reason(model_type: str) -> None:
    with pytest.raises(UnsupportedModel, match=re.escape(f"{model_type!r} is not supported: {BROKEN[model_type]}")):
        family_of(model_type)


def test_an_unknown_family_is_refused_with_those_that_work() -> None:
    with pytest.raises(UnsupportedModel, match="'mamba' is not supported: it has not been shown to work") as refused:
        family_of("mamba")
    assert all(model_type in str(refused.value) for model_type in FAMILIES)


@pytest.mark.parametrize("template", sorted({family.awq_template for family in FAMILIES.values()}))
def test_quark_has_the_awq_template_of_every_family(template: str) -> None:
    # Read as text: importing Quark takes longer than all other tests of this file's kind together.
    source = _source("amd-quark", "quark/torch/quantization/config/template.py")
    assert re.search(rf'^    "{template}": \{{$', source, re.MULTILINE)


@pytest.mark.parametrize(
    "option", sorted({option for family in FAMILIES.values() for option, _ in family.builder_options})
)
def test_the_model_builder_knows_every_option_of_a_family(option: str) -> None:
    # It ignores options that it does not know, without a word.
    assert re.search(
        rf"^ +{option} = ", _source("onnxruntime-genai", "onnxruntime_genai/models/builder.py"), re.MULTILINE
    )


def _source(package: str, file: str) -> str:
    return Path(str(distribution(package).locate_file(file))).read_text(encoding="utf-8")

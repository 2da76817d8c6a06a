"""Every knob names another result, and a value that cannot work is refused by name."""

import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest

from builder import recipe
from builder.checkpoint.source import parse_source
from builder.commands import build_parser, quantize_parser
from builder.errors import BuildError
from builder.flags import recipe_from, target_from
from builder.recipe import ExportTarget, QuantRecipe, recipe_hash
from tests.hub import ROOT

# Another valid value for each knob; a knob that is not listed here fails its test.
ANOTHER: dict[str, Any] = {
    "quant_algo": "gptq",
    "awq_search": "quark",
    "group_size": 64,
    "mixture": "q4_k_m",
    "data_type": "bfloat16",
    "dataset": "demo",
    "num_calib_data": 16,
    "seq_len": 256,
    "dataset_sha256": "5" * 64,
    "fallback_dataset": "offline",
    "exclude_layers": (),
    "custom_mode": "awq",
    "execution_provider": "cuda",
    "accuracy_level": 1,
    "lm_head_bits": 4,
    "embedding_bits": 8,
}


@pytest.mark.parametrize("knob", [field.name for field in fields(QuantRecipe)])
def test_every_knob_of_the_recipe_changes_the_hash(knob: str) -> None:
    usual = QuantRecipe(quant_algo="gptaq" if knob == "mixture" else "awq")  # which has 4 bits everywhere
    changed = replace(usual, **{knob: ANOTHER[knob]})
    assert recipe_hash(changed, ExportTarget()) != recipe_hash(usual, ExportTarget())


@pytest.mark.parametrize("knob", [field.name for field in fields(ExportTarget)])
def test_every_knob_of_the_target_changes_the_hash(knob: str) -> None:
    changed = replace(ExportTarget(), **{knob: ANOTHER[knob]})
    assert recipe_hash(QuantRecipe(), changed) != recipe_hash(QuantRecipe(), ExportTarget())


def test_a_new_format_changes_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe_hash(QuantRecipe(), ExportTarget())
    monkeypatch.setattr(recipe, "FORMAT", recipe.FORMAT + 1)
    assert recipe_hash(QuantRecipe(), ExportTarget()) != before


def test_what_only_gptaq_has_changes_its_hash_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds by other algorithms, which may have taken hours, stay what they are."""
    both = QuantRecipe(), QuantRecipe(quant_algo="gptaq")
    before = [recipe_hash(each, ExportTarget()) for each in both]
    monkeypatch.setattr(recipe, "GPTAQ_DAMPING", 0.5)
    after = [recipe_hash(each, ExportTarget()) for each in both]
    assert before[0] == after[0] and before[1] != after[1]


def test_equal_recipes_have_the_same_hash_in_every_process() -> None:
    script = "from builder.recipe import *; print(recipe_hash(QuantRecipe(seq_len=64), ExportTarget('dml')))"
    elsewhere = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    here = recipe_hash(QuantRecipe(seq_len=64), ExportTarget("dml"))
    assert elsewhere.stdout.strip() == here
    assert len(here) == 12


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("quant_algo", "hqq"),
        ("custom_mode", "fp8"),
        ("group_size", 48),
        ("group_size", 0),
        ("mixture", "q6_k"),
        ("data_type", "int8"),
        ("num_calib_data", 0),
        ("num_calib_data", -3),
        ("seq_len", 15),
        ("seq_len", 8193),
    ],
)
def test_a_recipe_refuses_a_value_that_cannot_work_and_names_it(knob: str, value: Any) -> None:
    with pytest.raises(BuildError) as refused:
        QuantRecipe(**{knob: value})
    assert f"--{knob.replace('_', '-')}" in str(refused.value)
    assert f"not {value!r}." in str(refused.value)


@pytest.mark.parametrize("length", [16, 8192])
def test_the_ends_of_a_range_belong_to_it(length: int) -> None:
    assert QuantRecipe(seq_len=length, num_calib_data=1).seq_len == length


@pytest.mark.parametrize(
    ("knob", "value"),
    [("execution_provider", "tpu"), ("accuracy_level", 2), ("lm_head_bits", 6), ("embedding_bits", 4)],
)
def test_a_target_refuses_a_value_that_cannot_work_and_names_it(knob: str, value: Any) -> None:
    with pytest.raises(BuildError) as refused:
        ExportTarget(**{knob: value})
    assert f"--{knob.replace('_', '-')}" in str(refused.value)
    assert f"not {value!r}." in str(refused.value)


def test_builds_that_are_older_than_a_knob_are_still_found() -> None:
    assert recipe_hash(QuantRecipe(), ExportTarget()) == "700d39ec1faa"


def test_embeddings_in_8_bits_are_for_the_cpu() -> None:
    with pytest.raises(BuildError, match="--embedding-bits 8 is for --execution-provider cpu, and it is dml: use 16"):
        ExportTarget("dml", embedding_bits=8)


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        ([], 16),
        (["--embedding-bits", "8"], 8),
        (["--quality", "fast"], 8),
        (["--quality", "best", "--embedding-bits", "16"], 16),
        (["--quality", "best", "-e", "dml"], 16),
    ],
)
def test_embeddings_have_8_bits_where_that_or_a_quality_is_asked_for(flags: list[str], bits: int) -> None:
    assert target_from(build_parser().parse_args(flags), ("lm_head",)).embedding_bits == bits


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], ("awq", 128, "none")),
        (["--quality", "fast"], ("none", 64, "none")),
        (["--quality", "balanced"], ("gptaq", 128, "none")),
        (["--quality", "best"], ("gptaq", 64, "q4_k_m")),
        (["--quality", "best", "--group-size", "32"], ("gptaq", 32, "none")),
        (["--quality", "best", "--mixture", "none"], ("gptaq", 64, "none")),
        (["--quality", "balanced", "--mixture", "q4_k_m"], ("gptaq", 128, "q4_k_m")),
        (["--quality", "best", "--quant-algo", "gptq"], ("gptq", 64, "q4_k_m")),
        (["--quality", "best", "--quant-algo", "awq"], ("awq", 64, "none")),
        (["--quality", "best", "--custom-mode", "awq"], ("awq", 64, "none")),
    ],
)
def test_a_quality_is_an_algorithm_a_group_size_and_a_mixture_unless_flags_say_otherwise(
    flags: list[str], expected: tuple[str, int, str]
) -> None:
    made = recipe_from(build_parser().parse_args(flags), parse_source("demo"))
    assert (made.quant_algo, made.group_size, made.mixture) == expected


def test_what_cannot_have_a_mixture_is_refused() -> None:
    with pytest.raises(BuildError, match=r"--mixture q4_k_m needs .* and --quant-algo is awq: use gptaq, gptq or none"):
        recipe_from(build_parser().parse_args(["--mixture", "q4_k_m"]), parse_source("demo"))
    with pytest.raises(BuildError, match="no room for 8 bits where --group-size is 32"):
        QuantRecipe(quant_algo="gptaq", group_size=32, mixture="q4_k_m")


def test_the_step_by_itself_quantizes_as_quarks_example_does() -> None:
    flags = quantize_parser().parse_args(["--model-dir", "demo", "--output-dir", "made"])
    made = recipe_from(flags, parse_source("demo"))
    assert (made.quant_algo, made.group_size, made.exclude_layers) == ("awq", 128, ("lm_head",))

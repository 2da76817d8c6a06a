"""Embeddings in 8 bits: what is written of a table, and what ONNX Runtime reads of it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from builder.errors import StageFailed
from builder.stages.embeddings import GROUP, rounded
from builder.stages.graph import UNTOUCHED, check_embeddings

LOOKUP = "/model/embed_tokens/Gather"


def table(rows: int, hidden: int) -> torch.Tensor:
    return torch.randn(rows, hidden, generator=torch.Generator().manual_seed(hidden))


def stood_for(integers: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    return (integers.float() - 128) * scales.repeat_interleave(GROUP, dim=1)[:, : integers.shape[1]]


@pytest.mark.parametrize(("rows", "hidden"), [(7, 64), (9000, 32), (5, 80), (3, 8)])
def test_each_value_is_within_half_a_step_of_its_group(rows: int, hidden: int) -> None:
    whole = table(rows, hidden)
    integers, scales = rounded(whole)
    steps = scales.repeat_interleave(GROUP, dim=1)[:, :hidden]
    assert ((stood_for(integers, scales) - whole).abs() <= 0.5001 * steps).all()
    groups = torch.nn.functional.pad(whole, (0, -hidden % GROUP)).view(rows, -1, GROUP)
    assert torch.equal(scales, groups.abs().amax(-1) / 127)


def test_what_is_rounded_already_stays_as_it_is_and_so_do_zeros() -> None:
    whole = table(6, 64)
    whole[2] = 0
    once = stood_for(*rounded(whole))
    assert (once[2] == 0).all() and torch.allclose(stood_for(*rounded(once)), once, rtol=1e-6, atol=0)


def test_a_table_of_halves_is_rounded_as_the_same_in_float32() -> None:
    halves = table(5, 64).bfloat16()
    assert all(torch.equal(*each) for each in zip(rounded(halves), rounded(halves.float()), strict=True))


def saved(path: Path, nodes: Iterable[onnx.NodeProto], weights: Iterable[onnx.TensorProto] = ()) -> Path:
    tokens = helper.make_tensor_value_info("ids", TensorProto.INT64, [None])
    found = helper.make_tensor_value_info("found", TensorProto.FLOAT, [None, None])
    graph = helper.make_graph(list(nodes), "graph", [tokens], [found], list(weights))
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), str(path))
    return path


@pytest.mark.parametrize("hidden", [64, 80])
def test_onnx_runtime_reads_what_was_written(tmp_path: Path, hidden: int) -> None:
    integers, scales = rounded(table(50, hidden))
    node = helper.make_node(
        "GatherBlockQuantized", ["q", "ids", "s"], ["found"], LOOKUP + "BlockQuantized", domain="com.microsoft",
        bits=8, block_size=GROUP, gather_axis=0, quantize_axis=1,
    )  # fmt: skip
    weights = [numpy_helper.from_array(integers.numpy(), "q"), numpy_helper.from_array(scales.numpy(), "s")]
    path = saved(tmp_path / "model.onnx", [node], weights)
    token_ids = np.array([0, 49, 7, 7])
    (found,) = onnxruntime.InferenceSession(str(path)).run(None, {"ids": token_ids})
    assert np.array_equal(found, stood_for(integers, scales)[token_ids].numpy())
    check_embeddings(path, 8)


def test_other_embeddings_than_were_asked_for_are_refused(tmp_path: Path) -> None:
    plain = saved(tmp_path / "plain.onnx", [helper.make_node("Gather", ["table", "ids"], ["found"], LOOKUP)])
    check_embeddings(plain, UNTOUCHED)
    with pytest.raises(StageFailed, match=r"in tables of \[16\] bits where one of 8 was asked for"):
        check_embeddings(plain, 8)
    with pytest.raises(StageFailed, match=r"in tables of \[\] bits where one of 16 was asked for"):
        check_embeddings(saved(tmp_path / "none.onnx", []), UNTOUCHED)

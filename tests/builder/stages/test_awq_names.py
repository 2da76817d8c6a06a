"""Names of tensors in AWQ's own format."""

import json
from pathlib import Path

from builder.stages.awq_names import awq_names, repair_awq_names


def test_only_what_has_no_scales_is_renamed() -> None:
    written = ["a.qweight", "a.scales", "a.qzeros", "norm.qweight", "norm.bias"]
    assert awq_names(written) == {"norm.qweight": "norm.weight"}


def test_names_are_repaired_in_place_across_shards_and_no_weight_changes(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    first = {"a.qweight": torch.arange(6), "norm.qweight": torch.ones(3)}
    second = {"a.scales": torch.rand(2), "embed.qweight": torch.rand(4, 4)}
    shards = {"model-1.safetensors": first, "model-2.safetensors": second}
    for name, tensors in shards.items():
        save_file(tensors, tmp_path / name, {"format": "pt"})
    index = {"weight_map": {name: shard for shard, tensors in shards.items() for name in tensors}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("*.safetensors")}

    repair_awq_names(tmp_path)
    loaded = {name: load_file(tmp_path / name) for name in shards}
    assert {name: set(tensors) for name, tensors in loaded.items()} == {
        "model-1.safetensors": {"a.qweight", "norm.weight"},
        "model-2.safetensors": {"a.scales", "embed.weight"},
    }
    assert loaded["model-1.safetensors"]["norm.weight"].equal(first["norm.qweight"])
    assert loaded["model-2.safetensors"]["embed.weight"].equal(second["embed.qweight"])
    assert {path.name: path.stat().st_size for path in tmp_path.glob("*.safetensors")} == sizes
    mapped = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert mapped["embed.weight"] == "model-2.safetensors" and "embed.qweight" not in mapped

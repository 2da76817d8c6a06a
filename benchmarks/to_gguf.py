"""A checkpoint of the llama family as GGUF, quantized by llama.cpp: to measure beside ours.

    pip install llama-cpp-python gguf
    python -m benchmarks.to_gguf builder/demo/checkpoint q4_k_m.gguf
    python -m benchmarks.to_gguf builder/demo/checkpoint iq4_xs.gguf --kind IQ4_XS

llama.cpp quantizes from float32, without an importance matrix. The tokenizer has to be a byte-level BPE. It is written
as far as measuring needs it: token by token, so that texts that llama.cpp reads by itself may be cut otherwise.
"""

import argparse
import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
KINDS = {"F32": 0, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_M": 17, "IQ4_XS": 30}
_NORMAL, _CONTROL = 1, 3  # llama.cpp's types of tokens


def interleaved(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """Rows of a projection of queries or keys in llama.cpp's order, which has the two of a rotary pair side by side."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_float32(checkpoint: Path, file: Path) -> None:
    """The checkpoint as it is, in float32."""
    import gguf

    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(rope.get("rope_theta", 10_000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(0)
    _add_tokenizer(writer, checkpoint, config)
    for shard in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(shard, "numpy") as content:
            for key in content.keys():  # noqa: SIM118 (it is no mapping)
                weight, parts = content.get_tensor(key).astype(np.float32), key.split(".")
                if key not in OUTER:
                    name = f"blk.{parts[2]}.{NAMES['.'.join(parts[3:-1])]}.{parts[-1]}"
                    if parts[-2] in ("q_proj", "k_proj"):
                        weight = interleaved(weight, heads if parts[-2] == "q_proj" else kv_heads)
                else:
                    name = OUTER[key]
                writer.add_tensor(name, np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, checkpoint: Path, config: dict[str, Any]) -> None:
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    added = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    spelled = {number: token for token, number in tokenizer["model"]["vocab"].items()} | added
    size = config["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([spelled.get(number, f"[unused {number}]") for number in range(size)])
    writer.add_token_types([_CONTROL if number in added else _NORMAL for number in range(size)])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def quantize(whole: Path, file: Path, kind: str, threads: int) -> None:
    """What llama.cpp makes of a GGUF file. Exits with its refusal."""
    import llama_cpp

    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = KINDS[kind], threads
    if llama_cpp.llama_model_quantize(str(whole).encode(), str(file).encode(), ctypes.byref(settings)):
        raise SystemExit(f"llama.cpp does not quantize {whole} to {kind}: what it said is above.")


def decoder_bits(file: Path) -> float:
    """Bits of a weight of the decoder's layers, on average, with its share of scales; norms are not counted."""
    import gguf

    linears = [part for part in gguf.GGUFReader(file).tensors if part.name.startswith("blk.") and len(part.shape) == 2]
    return float(8 * sum(int(part.n_bytes) for part in linears) / sum(int(part.n_elements) for part in linears))


def main() -> None:
    """Write the file, and say how many bits a weight has."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.to_gguf", description=__doc__, formatter_class=formatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kind", choices=KINDS, default="Q4_K_M")
    parser.add_argument("--threads", type=int, default=2)
    flags = parser.parse_args()
    whole = flags.file.with_suffix(".f32.gguf")
    write_float32(flags.checkpoint, whole)
    quantize(whole, flags.file, flags.kind, flags.threads)
    whole.unlink()
    print(f"{flags.file}: {flags.file.stat().st_size} bytes, {decoder_bits(flags.file):.2f} bits a weight")


if __name__ == "__main__":
    main()

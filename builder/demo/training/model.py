"""The demo model's shape, its weighted loss and its optimizers."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from builder.demo.training.tokens import END_OF_TEXT_ID, IM_END_ID, IM_START_ID

VOCABULARY = 1856
"""With 7 layers this fills the 12 MB that the checkpoint may have."""

BACKGROUND_WEIGHT = 0.1
"""Loss weight of tokens that the model never has to write (user, system, frames); kept above 0 so that the perplexity
of whole chats, which export checks use, stays meaningful."""


def config(layers: int = 7, hidden: int = 256, intermediate: int = 768, vocabulary: int = VOCABULARY) -> LlamaConfig:
    """A small llama: heads of 64, two query heads for each key-value head, tied embeddings."""
    heads = hidden // 64
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        head_dim=64,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=IM_END_ID,
        pad_token_id=END_OF_TEXT_ID,
        initializer_range=0.02,
    )


def target_weights(ids: Tensor, assistant: int) -> Tensor:
    """Loss weight of each token of packed rows [B, L] as a target: 1 inside assistant turns (with their end token).

    `assistant` is the token id of the role's name. A turn is `<|im_start|> assistant \\n text <|im_end|>`.
    """
    position = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    nowhere = torch.full_like(position, -1)
    start = torch.cummax(torch.where(ids == IM_START_ID, position, nowhere), dim=1).values
    end = torch.cummax(torch.where(ids == IM_END_ID, position, nowhere), dim=1).values
    role = torch.gather(ids, 1, (start + 1).clamp(0, ids.shape[1] - 1))
    speaking = (start >= 0) & (role == assistant) & (position >= start + 3) & ((end < start) | (end == position))
    return torch.where(speaking, 1.0, BACKGROUND_WEIGHT)


def loss_of(model: LlamaForCausalLM, ids: Tensor, assistant: int) -> Tensor:
    """Mean weighted cross entropy of predicting each next token of the rows [B, L]."""
    # The last position has nothing to predict: weight 0 instead of a shorter row, whose odd length would be slow.
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden).float()
    weights = F.pad(target_weights(ids, assistant)[:, 1:], (0, 1))
    each = F.cross_entropy(logits.flatten(0, 1), ids.roll(-1, dims=1).flatten(), reduction="none")
    return (each * weights.flatten()).sum() / weights.sum()


def optimizers(model: LlamaForCausalLM, rate: float, decay: float, muon: bool) -> list[torch.optim.Optimizer]:
    """AdamW for embeddings and norms; Muon (Jordan et al. 2024) or AdamW for the matrices inside the layers."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    fused = others[0].is_cuda
    rest: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=fused)
    ]
    if muon:
        # match_rms_adamw scales the update so that AdamW's rates and decays carry over.
        inner = torch.optim.Muon(matrices, lr=rate, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        return [inner, *rest]
    return [torch.optim.AdamW(matrices, lr=rate, betas=(0.9, 0.98), weight_decay=decay, fused=fused), *rest]


def new_model(shape: LlamaConfig, seed: int, device: str) -> LlamaForCausalLM:
    """Freshly initialised float32 weights, the same for the same seed."""
    torch.manual_seed(seed)
    return cast(LlamaForCausalLM, LlamaForCausalLM(shape).to(torch.float32).to(device))

"""Prompts become answers: the decoding loop, its scheduler and the runtimes under it."""

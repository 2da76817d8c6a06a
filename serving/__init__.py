"""Serve an exported model folder: prompt, sampling, KV cache, decoding loop, and the Gradio chat on top."""

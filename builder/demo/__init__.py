"""The bundled demo chat model: its checkpoint, its training text, its trainer and its score."""

from pathlib import Path

CHECKPOINT: Path = Path(__file__).parent / "checkpoint"
"""Folder of the shipped float16 Hugging Face checkpoint."""

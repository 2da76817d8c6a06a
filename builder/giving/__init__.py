"""Giving a built model away: what is told of it, under which licence, and how it reaches the Hugging Face Hub."""

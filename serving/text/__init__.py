"""Messages become tokens, and tokens become text."""

"""How fast a model is here: tokens/s, time to the first token, users at once, memory."""

"""One HTTP server: who may use it, and OpenAI's API."""

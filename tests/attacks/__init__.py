"""Attacks on a running server, and how much somebody beside them notices."""

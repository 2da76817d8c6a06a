"""Client libraries and programs as they are, each in an environment of its own, on the program as one starts it."""

"""How answers are written, whole and as the events of a stream: one file for each endpoint, beside what they share."""

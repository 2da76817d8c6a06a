"""What a request may say, and what it means here: one file for each endpoint, beside what they share."""

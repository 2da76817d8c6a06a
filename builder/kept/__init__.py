"""What stays: results of finished stages, and the model folders that were published."""

"""What made the demo model: its corpus, its trainer and its score. Nothing that runs later imports it."""

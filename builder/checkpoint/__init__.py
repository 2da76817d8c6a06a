"""What a checkpoint is: where it comes from, what it holds, and why it may be refused."""

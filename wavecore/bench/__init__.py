"""What it costs: each number is a ratio of two sides that ran in turn, in one process with the same settings."""

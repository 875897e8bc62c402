"""What it costs: each number is a ratio of two sides that ran in turn in one process; its row names their settings."""

from wavecore.model.settings import Size

# Of a token budget where nothing else is said: the largest of what `decide` chose on ETTh1 with three seeds.
SIZE = Size(16, 1, 5)

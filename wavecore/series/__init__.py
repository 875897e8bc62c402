"""A regular multichannel series in memory: its arrays, its splits, its scaling and what is computed per window."""

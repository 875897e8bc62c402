"""The rooms of code that a result follows from, for `wavecore.learn.manifest.code_hash`."""

# Whose change can change a weight.
TRAIN_ROOMS = (
    *("wavecore/series", "wavecore/wavelet", "wavecore/prompt", "wavecore/model", "wavecore/learn"),
    *("wavecore/seeds.py", "wavecore/stages.py"),
)
# Whose change can change an error.
JUDGE_ROOMS = (
    *("wavecore/series", "wavecore/wavelet", "wavecore/prompt", "wavecore/model"),
    *("wavecore/learn/forecast.py", "wavecore/judge", "wavecore/inside.py", "wavecore/seeds.py"),
)

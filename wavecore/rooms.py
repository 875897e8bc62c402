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
# Whose change can change what a stream gives.
ONLINE_ROOMS = (
    *("wavecore/series", "wavecore/wavelet", "wavecore/prompt", "wavecore/model", "wavecore/learn"),
    *("wavecore/judge", "wavecore/stream", "wavecore/seeds.py"),
)
# Beside the first two, for a family of stages alone.
FAMILY_ROOMS = {"titan": ("wavecore/stream",)}


def train_rooms(family: str) -> tuple[str, ...]:
    """The rooms whose change can change a weight of a stage of this family."""
    return (*TRAIN_ROOMS, *FAMILY_ROOMS.get(family, ()))


def judge_rooms(family: str) -> tuple[str, ...]:
    """The rooms whose change can change an error of a stage of this family."""
    return (*JUDGE_ROOMS, *FAMILY_ROOMS.get(family, ()))

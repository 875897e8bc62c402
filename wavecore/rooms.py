"""The code that a result follows from, for `wavecore.learn.manifest.code_hash`: rooms of modules and single ones.

The assets' own part is what reads the store and what trains, judges or streams one seed; around it is what a run is
reported with, from which no number follows.
"""

# How an artifact is read and its config put together.
_READS = ("assets/training.py", "assets/tables.py")
_MODELS = ("wavecore/series", "wavecore/wavelet", "wavecore/prompt", "wavecore/model")
# Whose change can change a weight.
TRAIN_ROOMS = (
    *(*_MODELS, "wavecore/learn", "wavecore/seeds.py", "wavecore/stages.py"),
    *("assets/fitting.py", "assets/told.py", *_READS),
)
# Whose change can change an error.
JUDGE_ROOMS = (
    *(*_MODELS, "wavecore/learn/forecast.py", "wavecore/judge", "wavecore/inside.py", "wavecore/seeds.py"),
    *("assets/scoring.py", "assets/told.py", *_READS),
)
# Whose change can change what a stream gives.
ONLINE_ROOMS = (
    *(*_MODELS, "wavecore/learn", "wavecore/judge", "wavecore/stream", "wavecore/seeds.py"),
    *("assets/streaming.py", *_READS),
)
# Beside the first two, for a family of stages alone.
FAMILY_ROOMS = {"titan": ("wavecore/stream",)}


def science(family: str) -> tuple[str, ...]:
    """What of the rooms of this family is in this package, and what trains and judges where the package is alone."""
    rooms = (
        *train_rooms(family),
        *judge_rooms(family),
        "wavecore/ladder.py",
        "wavecore/config.py",
        "wavecore/strict.py",
    )
    return tuple(dict.fromkeys(room for room in rooms if room.startswith("wavecore/")))


def train_rooms(family: str) -> tuple[str, ...]:
    """The rooms whose change can change a weight of a stage of this family."""
    return (*TRAIN_ROOMS, *FAMILY_ROOMS.get(family, ()))


def judge_rooms(family: str) -> tuple[str, ...]:
    """The rooms whose change can change an error of a stage of this family."""
    return (*JUDGE_ROOMS, *FAMILY_ROOMS.get(family, ()))

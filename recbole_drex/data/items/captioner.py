"""Captions of images by a vision-language model of ``transformers``, as LIRDRec describes items."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from recbole_drex.data.items.images import LARGEST, SMALLEST, opened
from recbole_drex.data.text.contextual_encoder import quiet_transformers
from recbole_drex.data.text.pretrained import load_pretrained, placed, pretrained_folder
from recbole_drex.data.text.tokenizer import clean
from recbole_drex.errors import ConfigError, DataError

KIND = "image captioner"
KNOWN_CAPTIONERS = (
    "Salesforce/blip-image-captioning-base",
    "nlpconnect/vit-gpt2-image-captioning",
    "HuggingFaceTB/SmolVLM-256M-Instruct",
)
CHAT_PROMPT = "Describe what this picture shows of the item, in at most three sentences and without formatting."
TOKENS = 96  # that are generated at most

_THOUGHTS = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)
_FORMATTING = re.compile(r"```\w*|!?\[(?P<label>[^\]]*)\]\([^)]*\)|^\s*([-+]|\d+\.)\s|[*`#|~>]+|__+", re.MULTILINE)


def plain_caption(text: str) -> str:
    """A model's answer as plain text on one line, without tags, Markdown and ``<think>``; ``""`` if no word is left.

    Example:
        >>> plain_caption("<think>A box?</think>\\n## A **red** box<br/>\\n- with [a lid](x.html)\\n")
        'A red box with a lid'
        >>> plain_caption("```html\\n<p></p>\\n```")
        ''
    """
    text = _FORMATTING.sub(lambda match: match["label"] or " ", _clean_lines(_THOUGHTS.sub(" ", text)))
    text = " ".join(text.split())
    return text if any(char.isalnum() for char in text) else ""


def _clean_lines(text: str) -> str:
    """Each line cleaned by :func:`~recbole_drex.data.text.tokenizer.clean`."""
    return "\n".join(clean(line, lower=False) for line in text.splitlines())


class Captioner:
    """A vision-language model that describes one image after the other; see :func:`load_captioner`.

    The caption is the most probable next word, again and again (greedy decoding), so it is the same every time. Images
    are not put into batches: a caption depends only on its image.

    Attributes:
        settings: all settings that determine a caption.
    """

    def __init__(self, model: Any, processor: Any, device: str, *, chat: bool, settings: dict[str, Any]):
        self.settings = settings
        self._model, self._processor, self._device, self._chat = model, processor, device, chat

    def __call__(self, path: Path) -> str:
        """The caption of an image, as the model writes it; see :func:`plain_caption`.

        Raises:
            DataError: the image cannot be decoded, or the model cannot read it.
        """
        import torch

        image, prompt = opened(path), self.settings["prompt"]
        if self._chat:
            content = [{"type": "image"}, {"type": "text", "text": prompt}]
            asked = [{"role": "user", "content": content}]
            prompt = self._processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        try:
            if prompt:
                inputs = self._processor(images=image, text=prompt, return_tensors="pt")
            else:
                inputs = self._processor.image_processor(images=image, return_tensors="pt")
            types = {True: self._model.dtype, False: None}
            inputs = {key: value.to(self._device, types[value.is_floating_point()]) for key, value in inputs.items()}
            with torch.inference_mode(), quiet_transformers():
                ids = self._model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False, num_beams=1)[0]
        except (ValueError, TypeError, KeyError, RuntimeError, IndexError) as error:
            raise DataError(f"{KIND} '{self.settings['name']}' cannot describe {path}: {error}") from error
        if self._chat and torch.equal(ids[: inputs["input_ids"].shape[1]], inputs["input_ids"][0]):
            ids = ids[inputs["input_ids"].shape[1] :]
        return str(self._processor.tokenizer.decode(ids, skip_special_tokens=True))


def load_captioner(name: str, prompt: str | None = None) -> Captioner:
    """Load a vision-language model: of an encoder and a decoder, BLIP-like, or a chat model that takes images.

    Args:
        name: a local folder, or a Hugging Face name such as ``Salesforce/blip-image-captioning-base``.
        prompt: what a chat model is asked (None: :data:`CHAT_PROMPT`), or how the captions of a BLIP-like model begin.

    Raises:
        DataError: it is missing, damaged, lacks weights, or does not make text from images.
        ConfigError: a prompt for a model that takes none.
    """
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True}

    def load_processor(folder: Path) -> Any:
        processor = AutoProcessor.from_pretrained(folder, use_fast=False, **options)  # nosec B615
        if hasattr(processor, "image_processor") and hasattr(processor, "tokenizer"):
            return processor
        # A model of an encoder and a decoder has no processor of its own.
        return SimpleNamespace(
            image_processor=AutoImageProcessor.from_pretrained(folder, use_fast=False, **options),  # nosec B615
            tokenizer=AutoTokenizer.from_pretrained(folder, **options),  # nosec B615
        )

    folder, weights = pretrained_folder(KIND, name, KNOWN_CAPTIONERS)
    processor, model, _ = load_pretrained(KIND, name, folder, AutoModelForImageTextToText, load_processor)
    chat = getattr(processor, "chat_template", None) is not None
    if prompt and not callable(processor):
        raise ConfigError(f"{KIND} '{name}' takes no prompt; leave out 'caption_prompt'")
    model, device = placed(model)
    settings = {
        "name": name, "weights_sha256": weights, "prompt": prompt or (CHAT_PROMPT if chat else None),
        "tokens": TOKENS, "largest_side": LARGEST, "smallest_side": SMALLEST,
    }  # fmt: skip
    return Captioner(model, processor, device, chat=chat, settings=settings)

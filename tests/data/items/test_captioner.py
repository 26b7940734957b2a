"""Captions of images by small vision-language models with random weights, saved as real ones are."""

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, VisionEncoderDecoderModel

from recbole_drex.data.items.captioner import CHAT_PROMPT, TOKENS, load_captioner, plain_caption
from recbole_drex.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    names = ("vit_gpt2", "blip", "llava", "bert")
    return {name: str(getattr(tiny_models, name)(tmp_path_factory.mktemp(name))) for name in names}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (40 + k, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return sorted(folder.iterdir())


def test_an_encoder_and_decoder_writes_the_most_probable_words(folders, pictures):
    """Against greedy decoding written out."""
    captioner = load_captioner(folders["vit_gpt2"])
    model = VisionEncoderDecoderModel.from_pretrained(folders["vit_gpt2"]).eval()
    image = Image.open(pictures[0]).resize((32, 32), Image.Resampling.BILINEAR)
    pixels = (np.asarray(image) / 255 - tiny_models.PREPARATION["image_mean"]) / tiny_models.PREPARATION["image_std"]
    pixels, ids = torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32), [1]
    with torch.no_grad():
        while len(ids) <= TOKENS and ids[-1] != 2:
            ids.append(int(model(pixel_values=pixels, decoder_input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    expected = AutoTokenizer.from_pretrained(folders["vit_gpt2"]).decode(ids, skip_special_tokens=True)
    assert captioner(pictures[0]) == expected != ""
    assert captioner.settings["prompt"] is None
    with pytest.raises(ConfigError, match="takes no prompt; leave out 'caption_prompt'"):
        load_captioner(folders["vit_gpt2"], "a red")


def test_a_prompt_begins_the_caption_of_a_blip(folders, pictures):
    assert load_captioner(folders["blip"], "a red")(pictures[0]).startswith("a red")
    assert load_captioner(folders["blip"])(pictures[0]) == "", "this one returns nothing"


def test_a_chat_model_is_asked_and_its_question_is_not_part_of_the_caption(folders, pictures):
    captioner = load_captioner(folders["llava"])
    assert captioner.settings["prompt"] == CHAT_PROMPT
    asked = load_captioner(folders["llava"], "man with car")
    answers = [asked(path) for path in pictures]
    assert all(answers) and [asked(path) for path in pictures] == answers
    assert all(len(answer.split()) <= TOKENS and "<image>" not in answer for answer in answers)
    assert asked.settings != captioner.settings
    # The answer is what the model writes after the question, image included.
    model, processor = asked._model, asked._processor
    text = "<image> man with car a"
    inputs = processor(images=Image.open(pictures[0]), text=text, return_tensors="pt")
    with torch.no_grad():
        ids = [int(model(**inputs).logits[0, -1].argmax())]
    assert answers[0].split()[0] == processor.tokenizer.decode(ids)


def test_models_that_cannot_be_used(folders, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"unknown image captioner 'Salesforce/blip'.* Hugging Face name"):
        load_captioner("Salesforce/blip")
    with pytest.raises(DataError, match=r"image captioner .*bert.* cannot be loaded from"):
        load_captioner(folders["bert"])
    folder = tiny_models.vit_gpt2(tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file(dict(list(weights.items())[2:]), folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="lacks weights, such as"):
        load_captioner(str(folder))
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no\.png cannot be decoded"):
        load_captioner(folders["blip"])(tmp_path / "no.png")


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("", ""),
        (" \n\t", ""),
        ("<p></p>", ""),
        ("```\n```", ""),
        ("...", ""),
        ("<think>\nIs it a box?\n", ""),
        ("**Title:** A <b>red</b> box &amp; lid", "Title: A red box & lid"),
        ("1. one\n2. two", "one two"),
        ("![poster](http://x/y.png) of a [film](z)", "poster of a film"),
        ("| a | b |", "a b"),
        ("Snow_White at 3-4 pm", "Snow_White at 3-4 pm"),
        ("\x1b[2Jred\u202e film", "[2Jred film"),
    ],
)
def test_markup_and_nothing(answer, caption):
    assert plain_caption(answer) == caption

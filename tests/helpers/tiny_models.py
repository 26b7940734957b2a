"""Small models of ``transformers`` with random weights, saved to a folder as real ones are."""

import json

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipProcessor,
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)

SIDE = 32
PREPARATION = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": SIDE, "width": SIDE},
    "resample": 2,
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2],
}
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VISION = {**TINY, "image_size": SIDE, "patch_size": 8}
WORDS = [
    "[PAD]",
    "[CLS]",
    "[SEP]",
    "[UNK]",
    "<image>",
    "a",
    "red",
    "blue",
    "film",
    "poster",
    "of",
    "man",
    "with",
    "car",
]


def saved(model, folder, scale=0.2):
    """Save a model with reproducible random weights of this standard deviation."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data = scale * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return folder


def with_preparation(folder):
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARATION))
    return folder


def tokenizer(padding=True, special=True, length=24):
    """A tokenizer of whole words; ``[CLS] ... [SEP]`` if ``special``."""
    inner = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        inner.post_processor = processors.TemplateProcessing(
            "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    names = {
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "bos_token": "[CLS]",
        "eos_token": "[SEP]",
    }
    if padding:
        names["pad_token"] = "[PAD]"
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=length, **names)


def bert(folder):
    tokenizer().save_pretrained(folder)
    return saved(BertModel(BertConfig(**TINY, vocab_size=len(WORDS), max_position_embeddings=24)), folder)


def gpt2(folder):
    """A decoder whose tokenizer has no padding token."""
    tokenizer(padding=False, special=False).save_pretrained(folder)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24, "vocab_size": len(WORDS)}
    return saved(GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)), folder)


def t5(folder):
    tokenizer().save_pretrained(folder)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": len(WORDS)}
    return saved(T5Model(T5Config(**sizes, decoder_start_token_id=0)), folder)


def vit_gpt2(folder):
    """A captioner of an encoder and a decoder, without a processor of its own."""
    tokenizer().save_pretrained(folder)
    decoder = GPT2Config(
        n_embd=16, n_layer=2, n_head=2, n_positions=128, vocab_size=len(WORDS), bos_token_id=1, eos_token_id=2
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**VISION), decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 1, 0, 2
    # Larger weights, with which captions of different images differ.
    return with_preparation(saved(VisionEncoderDecoderModel(config), folder, scale=0.5))


def _image_processor(folder):
    from transformers import AutoImageProcessor

    folder.mkdir(parents=True, exist_ok=True)
    return AutoImageProcessor.from_pretrained(with_preparation(folder), use_fast=False)


def blip(folder):
    """A captioner whose prompt begins the caption."""
    processor = BlipProcessor(_image_processor(folder), tokenizer())
    processor.save_pretrained(folder)
    text = {**TINY, "vocab_size": len(WORDS), "max_position_embeddings": 128, "encoder_hidden_size": 16}
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0}
    return saved(BlipForConditionalGeneration(BlipConfig(text_config={**text, **tokens}, vision_config=VISION)), folder)


def llava(folder):
    """A chat model that takes images."""
    template = (
        "{% for message in messages %}{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}a{% endif %}"
    )
    words = tokenizer(length=256)
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    LlavaProcessor(
        _image_processor(folder), words, patch_size=8, vision_feature_select_strategy="default", chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(
            **TINY, vocab_size=len(WORDS), max_position_embeddings=256, eos_token_id=2, bos_token_id=1
        ),
        image_token_index=4,
    )
    return saved(LlavaForConditionalGeneration(config), folder)

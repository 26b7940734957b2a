"""The target sentences of PESI, and its generator."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from recbole_drex.data.text.review_texts import ReviewTexts, write_texts
from recbole_drex.model.pesi.generator import SentenceWriter
from recbole_drex.model.pesi.sentence_data import END, PAD, UNKNOWN, Sentences, choose, split_sentences

WIDTH = 3


@pytest.mark.parametrize(
    "text, sentences",
    [
        ("", []),
        ("...?! --- 100%", [["100"]]),
        ("Great <b>fun</b>!<br/>Don't miss it.", [["great", "fun"], ["don't", "miss", "it"]]),
        ("David O. Russell's best. 8.5 of 10!", [["david", "o", "russell's", "best"], ["8", "5", "of", "10"]]),
        ("Slow, cold, and aloof", [["slow", ",", "cold", ",", "and", "aloof"]]),
        (", , !", []),
        ("Une fête\u2026 \u00e9patante !", [["une", "fête"], ["épatante"]]),
    ],
)
def test_a_text_is_split_into_sentences(text, sentences):
    assert split_sentences(text) == sentences


def test_the_first_sentence_of_fitting_length_is_chosen():
    short, fitting, long = ["so", "bad"], ["a", "good", "film"], ["word"] * 20
    assert choose([short, long, fitting], 15) == (fitting, True)
    assert choose([long, short], 15) == (long[:15], False)
    assert choose([short], 15) == (short, True)
    assert choose([], 15) == ([], False)


# Sentences ---------------------------------------------------------------------------------------------------------

TEXTS = [
    "the cat is good. The rest is silence.",
    "the dog is bad",
    "the cat is good and the dog is bad and the dog is good and the end never comes",
    "",
    "the secret is zebra zebra zebra zebra",
    "the cat is bad",
]


@pytest.fixture
def sentences(tmp_path):
    """User 1 writes rows 0 and 1 about items 1 and 2, user 2 rows 2 and 3, user 3 row 5 and something unreviewed."""
    write_texts(tmp_path / "texts", [TEXTS])
    user, item = torch.tensor([3, 1, 1, 2, 2, 3]), torch.tensor([1, 2, 1, 1, 2, 2])
    row = torch.tensor([5, 1, 0, 2, 3, -1])
    return Sentences(user, item, row, ReviewTexts(tmp_path / "texts"), 50, 6, 3)


def test_vocabulary_and_sentences_come_from_the_given_rows_alone(sentences):
    counts = Counter(word for k in (0, 1, 2, 5) for part in split_sentences(TEXTS[k]) for word in part)
    assert sentences.vocabulary[3:] == sorted((w for w in counts if counts[w] > 2), key=lambda w: (-counts[w], w))
    assert "zebra" not in sentences.vocabulary
    total = sum(counts[word] for word in sentences.vocabulary[3:])
    expected = [0, 0, 0, *(counts[word] / total for word in sentences.vocabulary[3:])]
    np.testing.assert_allclose(sentences.frequency, expected, rtol=1e-6)
    assert list(zip(sentences.user.tolist(), sentences.item.tolist(), strict=True)) == [
        (1, 1), (1, 2), (2, 1), (2, 2), (3, 1)
    ]  # fmt: skip


def test_numbers_of_sentences(sentences):
    words = [[sentences.vocabulary[k] for k in line] for line in sentences.words.tolist()]
    assert words[0] == ["<end>", "the", "cat", "is", "good", "<end>", "<pad>", "<pad>"]
    assert words[2] == ["<end>", "the", "cat", "is", "good", "and", "the", "<pad>"]  # cut: it does not end here
    assert words[3] == ["<end>", *["<pad>"] * 7]  # an empty review
    assert sentences.join(sentences.words[0, 1:].tolist()) == "The cat is good."
    assert sentences.join([END]) == ""


def test_words_of_an_item_leave_out_the_users_own_review(sentences):
    user, item = torch.tensor([1, 2, 2, 3]), torch.tensor([1, 1, 2, 0])
    result = sentences.item_words(user, item)
    for line, others in zip(result, ([2, 5], [0, 5], [1], []), strict=True):
        counts = Counter(word for k in others for part in split_sentences(TEXTS[k]) for word in part)
        assert line.tolist() == [0.0, 0.0, 0.0, *(float(counts[word]) for word in sentences.vocabulary[3:])]


def test_no_reviews_at_all(tmp_path):
    write_texts(tmp_path / "texts", [["never read"]])
    ids = torch.tensor([1, 2])
    none = Sentences(ids, ids, torch.tensor([-1, -1]), ReviewTexts(tmp_path / "texts"), 50, 6, 3)
    assert len(none.row) == 0 and len(none.vocabulary) == 3
    assert none.find(ids, ids).tolist() == [-1, -1]


# The writer --------------------------------------------------------------------------------------------------------


@pytest.fixture
def writer(sentences):
    torch.manual_seed(1)
    return SentenceWriter(sentences, torch.randn(len(sentences.vocabulary), 8), 4, WIDTH, 16)


def test_loss_is_that_of_the_equations(writer):
    """Every word by the GRU's equations, one at a time, in double precision."""
    writer.double()
    sentences, x = writer.sentences, torch.randn(5, WIDTH, dtype=torch.float64)
    p = {key: value.detach().numpy() for key, value in writer.state_dict().items()}

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    expected = []
    counts = sentences.item_words(sentences.user, sentences.item).numpy()
    for k, line in enumerate(sentences.words.tolist()):
        free = p["user.weight"][sentences.user[k]] + p["item.weight"][sentences.item[k]]
        c = np.tanh(p["condition.weight"] @ x[k].numpy() + p["condition.bias"] + free)
        s = np.tanh(p["start.weight"] @ c + p["start.bias"])
        odds = np.log1p(counts[k] / np.maximum(100.0 * sentences.frequency.numpy(), 1e-9))
        for word, following in itertools.pairwise(line):
            given = p["cell.weight_ih_l0"] @ np.concatenate([p["word.weight"][word], c]) + p["cell.bias_ih_l0"]
            state = p["cell.weight_hh_l0"] @ s + p["cell.bias_hh_l0"]
            (ir, iz, inew), (hr, hz, hnew) = np.split(given, 3), np.split(state, 3)
            r, z = sigmoid(ir + hr), sigmoid(iz + hz)
            s = (1 - z) * np.tanh(inew + r * hnew) + z * s
            gate = sigmoid(p["gate.weight"][0] @ s + p["gate.bias"][0])
            logits = p["word.weight"] @ (p["output.weight"] @ s) + p["bias"] + gate * odds
            if following not in (PAD, UNKNOWN):
                expected.append(np.log(np.exp(logits).sum()) - logits[following])
    result = writer.losses(x, sentences.user, sentences.item, sentences.words)
    np.testing.assert_allclose(result.detach(), expected, rtol=1e-5)


def test_it_learns_its_sentences_by_heart(writer):
    sentences, x = writer.sentences, 3 * torch.randn(5, WIDTH)
    writer.study(x, 200, seed=1)
    written = writer.write(x, sentences.user, sentences.item, 3)
    assert [written[k] for k in (0, 1, 4)] == ["The cat is good.", "The dog is bad.", "The cat is bad."]


def test_one_beam_is_the_greedy_search(writer):
    """Against a search word by word with the same rule."""
    sentences, x = writer.sentences, torch.randn(4, WIDTH)
    user, item = torch.tensor([1, 2, 3, 0]), torch.tensor([2, 1, 2, 0])
    with torch.no_grad():
        for k, text in enumerate(writer.write(x, user, item, 1)):
            c, state, odds = writer._begin(x[k : k + 1], user[k : k + 1], item[k : k + 1])
            line = [END]
            while len(line) < 2 or (line[-1] != END):
                out, _ = writer.cell(torch.cat([writer.word(torch.tensor(line[-1:])), c], 1)[:, None], state[None])
                state = out[:, 0]
                logits = writer._logits(state, odds)[0]
                for word in range(len(logits)):
                    again = line[1:].count(word) >= 2 or word == line[-1]
                    if word in (PAD, UNKNOWN) or again or (word == END and len(line) < 4):
                        logits[word] = -torch.inf
                line.append(END if len(line) == sentences.longest + 1 else int(logits.argmax()))
            assert text == sentences.join(line[1:])


def test_more_beams_find_no_less_likely_sentences(writer):
    sentences, x = writer.sentences, torch.randn(3, WIDTH)
    user, item = torch.tensor([1, 2, 3]), torch.tensor([2, 1, 2])
    scores = []
    for beams in (1, 20):
        lines = [(text.rstrip(".").lower().split(), True) for text in writer.write(x, user, item, beams)]
        for k, line in enumerate(lines):
            loss = writer.losses(x[k : k + 1], user[k : k + 1], item[k : k + 1], sentences.encode([line])).sum()
            scores.append(-loss.item() / len(line[0]) ** 0.7)
    assert all(many >= one - 1e-5 for one, many in zip(scores[:3], scores[3:], strict=True))


@pytest.mark.parametrize("beams", (1, 4))
def test_what_is_written_is_guarded_and_repeatable(writer, beams):
    with torch.no_grad():
        writer.output.weight.mul_(30)  # far from anything sensible
    user, item = torch.randint(4, (50,)), torch.randint(3, (50,))
    x = torch.randn(50, WIDTH)
    written = writer.write(x, user, item, beams)
    assert written == writer.write(x, user, item, beams)
    assert written[:7] == writer.write(x[:7], user[:7], item[:7], beams)
    for text in written:
        words = text.rstrip(".").lower().split()
        assert 3 <= len(words) <= 6 and "<" not in text and text.endswith(".")
        assert all(a != b for a, b in itertools.pairwise(words)) and max(Counter(words).values()) <= 2
    assert writer.write(x[:0], user[:0], item[:0], beams) == []

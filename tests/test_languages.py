"""Words, offsets and highlights of languages with and without spaces, and of emoji."""

from __future__ import annotations

import re
import unicodedata
import warnings
from html import unescape
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import UnigramTrainer

from skprotolm import ProtoLMClassifier
from skprotolm._records.words import find_words
from tests.tiny import HIDDEN, make_encoder

# Of each language a good and a bad meal, and the words of the good one that any
# tokenizer leaves apart; None where its tokens decide.
MEALS = {
    "Chinese": ("这家餐厅的菜很好吃。", "服务很差，菜也不好吃。", None),
    "Japanese": ("この店の料理はとてもおいしいです。", "サービスが悪かった。", None),
    "Thai": ("อาหารอร่อยมากและบริการดี", "อาหารไม่อร่อยเลย", None),
    "Khmer": ("អាហារឆ្ងាញ់ណាស់", "សេវាកម្មមិនល្អ", None),
    "Arabic": ("الطعام لذيذ جدًا، شكرًا!", "الخدمة سيئة.", "الطعام|لذيذ|جدًا|،|شكرًا|!"),
    "Hindi": ("खाना बहुत अच्छा था।", "सेवा ख़राब थी।", "खाना|बहुत|अच्छा|था|।"),
    "Korean": ("음식이 정말 맛있어요!", "서비스가 나빴어요.", "음식이|정말|맛있어요|!"),
    "Hebrew": ("האוכל היה טעים!", "השירות היה גרוע.", "האוכל|היה|טעים|!"),
    "emoji": ("so good 👩‍🍳👍🏽❤️!", "so bad 👎🏿😡.", "so|good|👩‍🍳👍🏽❤️|!"),
    "marks": ("le cafe\u0301 e\u0301tait bon", "le the\u0301 froid", None),
}
TEXTS = [text for good, bad, _ in MEALS.values() for text in (good, bad)]
LABELS = ["good", "bad"] * len(MEALS)


def multilingual_tokenizer() -> Any:
    """Build a tokenizer like that of XLM-RoBERTa: Unigram, without byte fallback."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = UnigramTrainer(
        vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("<s>", "</s>")],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
    )


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    """A tiny XLM-RoBERTa with random weights."""
    folder = tmp_path_factory.mktemp("xlm-roberta")
    tokenizer = multilingual_tokenizer()
    config = transformers.AutoConfig.for_model(
        "xlm-roberta",
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


@pytest.fixture(scope="module", params=["multilingual", "tiny_bert", "bytes"])
def clf(request, tmp_path_factory) -> ProtoLMClassifier:
    """Fits of encoders that know the languages, that do not, and that read bytes."""
    if request.param == "bytes":
        backbone = make_encoder("roberta", tmp_path_factory.mktemp("roberta"))
    else:
        backbone = request.getfixturevalue(request.param)
    clf = ProtoLMClassifier(backbone, n_prototypes=5, max_epochs=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of texts that the encoder cannot read
        return clf.fit(TEXTS, LABELS)


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnreadTextWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
@pytest.mark.parametrize("language", MEALS)
def test_words_are_whole_and_cover_the_text(clf, language):
    text, _, words = MEALS[language]
    e = clf.explain([text], token_method="decomposition")[0]
    spans = e.word_offsets[e.word_offsets[:, 2] > e.word_offsets[:, 1]]
    read = "".join(text[start:end] for _, start, end in spans.tolist())
    if e.read_fraction == 1 and not e.word_unread.any():
        assert read.replace(" ", "") == text.replace(" ", "")
    starts = {start for _, start, _ in spans.tolist()}
    assert not any(
        unicodedata.category(text[start]) in ("Mn", "Mc", "Me", "Cf")
        for start in starts
    )
    assert (np.diff(spans[:, 1]) > 0).all()  # in order, without overlap
    assert (spans[1:, 1] >= spans[:-1, 2]).all()
    assert e.word_scores.sum() == pytest.approx(e.token_scores.sum())
    if words is not None:
        assert [text[a:b] for a, b in find_words(text)] == words.split("|")


@pytest.mark.parametrize("language", ["Chinese", "Japanese", "Thai", "Khmer"])
def test_languages_without_spaces_have_several_words(multilingual, language):
    """A whole Thai sentence was one word."""
    text = MEALS[language][0]
    clf = ProtoLMClassifier(multilingual, n_prototypes=5, max_epochs=1, random_state=0)
    e = clf.fit(TEXTS, LABELS).explain([text])[0]
    assert len(e.words) > 3
    assert "".join(e.words) == text


@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.UnreadTextWarning")
@pytest.mark.filterwarnings("ignore::skprotolm.exceptions.TextTruncatedWarning")
@pytest.mark.parametrize("language", MEALS)
def test_pages_show_texts_unchanged(clf, language):
    text = MEALS[language][0]
    page = clf.explain([text]).to_html()
    card = page.split('skprotolm-explained">')[1].split("<p class=")[0]
    shown = re.sub(r"<[^>]*>", "", card)
    assert text in unescape(shown)

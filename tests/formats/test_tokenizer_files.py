"""A sentencepiece model gives the ids that sentencepiece itself gives."""

import io

import pytest
import sentencepiece

from pi0.formats.tokenizer_files import find_tokenizer, read_sentencepiece
from tests.formats.checkpoints import TOKENIZER

TEXTS = [
    "put both moka pots on the stove",
    "open the top drawer of the cabinet and put the bowl in it",
    "pick up the alphabet soup and place it in the basket",
    "turn on the stove and put the frying pan (no. 27) on it",
    "put the white mug on the left plate",
]


@pytest.fixture(scope="module")
def model() -> bytes:
    """A small byte-pair model with the switches of PaliGemma's."""
    data = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5),
        model_writer=data,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        split_digits=True,
        allow_whitespace_only_pieces=True,
        user_defined_symbols=["\n", "<loc0000>"],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        minloglevel=2,
    )
    return data.getvalue()


def test_ids_equal_those_of_sentencepiece(model, tmp_path):
    path = tmp_path / "paligemma_tokenizer.model"
    path.write_bytes(model)
    original = sentencepiece.SentencePieceProcessor(model_proto=model)
    tokenizer = find_tokenizer(tmp_path, None)
    assert tokenizer.get_vocab_size() == original.get_piece_size()
    assert tokenizer.token_to_id("<bos>") == original.bos_id() == 2
    for text in [*TEXTS, "\n", "put that\n", "Gr\u00fc\u00df Gott"]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == original.encode(text), text


def test_what_is_no_sentencepiece_model_is_refused(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is no sentencepiece model"):
        read_sentencepiece(tmp_path / "tokenizer.model")


def test_a_model_of_another_kind_is_refused(tmp_path):
    data = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5),
        model_writer=data,
        model_type="unigram",
        vocab_size=45,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(data.getvalue())
    with pytest.raises(ValueError, match=r"bring its tokenizer\.json instead"):
        read_sentencepiece(tmp_path / "tokenizer.model")


@pytest.mark.parametrize("location", ["tokenizer.json", "tokenizer/tokenizer.json"])
def test_tokenizer_json_is_found(tmp_path, location):
    (tmp_path / location).parent.mkdir(exist_ok=True)
    TOKENIZER.save(str(tmp_path / location))
    assert find_tokenizer(tmp_path, None).to_str() == TOKENIZER.to_str()
    assert (
        find_tokenizer(tmp_path / "elsewhere", tmp_path / location).to_str() == TOKENIZER.to_str()
    )

"""The tokenizer wherever a checkpoint keeps it, as ``tokenizer.json`` or as a sentencepiece model."""

from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PI0Config

from pi0.files import is_there, refuse_stand_in
from pi0.formats.evidence import CONFIG
from pi0.model.architecture import vlm_sizes
from pi0.tokenizer import read_tokenizer

_PLACES = (
    "tokenizer.json",
    "tokenizer/tokenizer.json",
    "tokenizer.model",
    "paligemma_tokenizer.model",
    "tokenizer/tokenizer.model",
)
_SPACE = "\u2581"  # sentencepiece writes spaces as this character
_PROBES = (
    "put both moka pots on the stove",
    "open the top drawer of the cabinet and put the bowl in it",
    "pick up the ketchup, and place it (gently!) in basket no. 27",
    "\n",
)


def find_tokenizer(folder: Path, chosen: Path | None) -> Tokenizer:
    """Return the tokenizer of a checkpoint; nothing is downloaded.

    Args:
        folder: The checkpoint.
        chosen: A file or folder that replaces it.
    """
    source = chosen or folder
    if source.is_file():
        return _read(source)
    for name in _PLACES:
        if is_there(source / name):
            return _read(source / name)
    raise FileNotFoundError(
        f"{source / _PLACES[0]} does not exist; put PaliGemma's tokenizer.json or "
        "paligemma_tokenizer.model there, or set policy.tokenizer_path"
    )


def check_vocabulary(
    tokenizer: Tokenizer, config: PI0Config, folder: Path, *, is_whole: bool
) -> None:
    """Refuse a tokenizer of other weights.

    Args:
        tokenizer: Of the instructions.
        config: Sizes of the network.
        folder: The checkpoint, for messages.
        is_whole: One embedding per token, as in the published pi0; the project's small policies may have more.

    Raises:
        ValueError: It has more tokens than there are embeddings, or others.
    """
    allowed = vlm_sizes(config).text_config.vocab_size
    base = tokenizer.get_vocab_size(with_added_tokens=False)
    every = tokenizer.get_vocab_size(with_added_tokens=True)
    # tokenizers made for transformers add <image> behind the vocabulary
    if base > allowed or (is_whole and every not in (allowed, allowed + 1)):
        raise ValueError(
            f"the tokenizer of {folder} has {every} tokens but {CONFIG} allows {allowed}; "
            "bring the tokenizer the weights were trained with (tokenizer.json)"
        )


def _read(path: Path) -> Tokenizer:
    return read_sentencepiece(path) if path.suffix == ".model" else read_tokenizer(path)


def read_sentencepiece(path: Path) -> Tokenizer:
    """Return a sentencepiece model as a tokenizer that gives the same ids.

    Raises:
        ValueError: It is no byte-pair model, or the translation is not exact.
    """
    refuse_stand_in(path)
    data = path.read_bytes()
    try:
        original = sentencepiece.SentencePieceProcessor(model_proto=data)
    except RuntimeError as error:
        raise ValueError(f"{path} is no sentencepiece model ({error}); copy it again") from None
    proto: Any = sentencepiece_model_pb2  # made at run time from a description, without types
    tokenizer = _translate(proto.ModelProto.FromString(data))
    for text in _PROBES:
        if tokenizer.encode(text, add_special_tokens=False).ids != original.encode(text):
            raise ValueError(
                f"{path} is not a tokenizer of PaliGemma's kind; bring its tokenizer.json instead"
            )
    return tokenizer


def _translate(proto: Any) -> Tokenizer:
    kinds = proto.SentencePiece
    ids = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    model = models.BPE(
        vocab=ids,
        merges=_merges({piece.piece for piece in proto.pieces if piece.type == kinds.NORMAL}, ids),
        unk_token=proto.pieces[proto.trainer_spec.unk_id].piece,
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    for piece in proto.pieces:
        token = AddedToken(piece.piece, normalized=False)
        if piece.type == kinds.CONTROL:
            tokenizer.add_special_tokens([token])
        elif piece.type == kinds.USER_DEFINED:
            tokenizer.add_tokens([token])
    return tokenizer


def _merges(mergeable: set[str], ids: dict[str, int]) -> list[tuple[str, str]]:
    """Return every way to make a token of two others; earlier tokens are merged first."""
    return [
        (piece[:cut], piece[cut:])
        for piece in sorted(mergeable, key=ids.__getitem__)
        for cut in range(1, len(piece))
        if piece[:cut] in ids and piece[cut:] in ids
    ]

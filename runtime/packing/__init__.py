"""Layouts of packed ternary weights, all with the signature of `Codec`."""

from .codec import Codec, Ternary
from .dot16 import Dot16
from .hugging_face import HuggingFace
from .i2_s import I2S
from .nibble9 import Nibble9
from .tq import TQ1, TQ2
from .trit48 import Trit48

CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        HuggingFace(),
        I2S("i2_s", block=128),
        I2S("i2_s-arm", block=64),
        TQ1(),
        TQ2(),
        Trit48(),
        Nibble9(),
        Dot16(),
    )
}

__all__ = ["CODECS", "Codec", "Ternary"]

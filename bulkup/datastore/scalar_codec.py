"""Serialized Values of the commonest shapes, read and rewritten without making a message of them.

Plain is a text below 16 KiB, a number that is not negative, a boolean, a float or null, alone in
its Value or followed by the index flag, in the very bytes that protobuf writes. All else (a
meaning, the same said in other bytes, what cannot be read) is for `ValuePb`, which also says what
is wrong.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from bulkup.datastore.messages import ValuePb

NOT_PLAIN: Any = type("_NotPlain", (), {})()

_EXCLUDED: bytes = ValuePb(exclude_from_indexes=True).SerializeToString()
_NO_TEXT: bytes = ValuePb(string_value="").SerializeToString()
_TEXT_TAG = _NO_TEXT[:2]  # two bytes, for its field's number is above 15
_TEXT, _TEXT_2 = _TEXT_TAG
_TEXT_HEADS = [_TEXT_TAG + bytes((length,)) for length in range(128)]
_INT: int = ValuePb(integer_value=0).SerializeToString()[0]
_BOOL: int = ValuePb(boolean_value=False).SerializeToString()[0]
_BOOLS = bytes((_BOOL, 0)), bytes((_BOOL, 1))
_NULL: int = ValuePb(null_value=0).SerializeToString()[0]
_FLOAT: int = ValuePb(double_value=0.0).SerializeToString()[0]
_float = Struct("<Bd")

_TYPES = frozenset({str, int, bool, float})

# A number or a length takes a byte for every 7 bits, all but the last with the eighth bit set.
_ONE_BYTE, _TWO_BYTES = 1 << 7, 1 << 14
_INT_END = 1 << 63


def read_plain(data: bytes) -> Any:
    """The value that a serialized Value holds, as `values.decode` gives it, or NOT_PLAIN."""
    try:
        tag = data[0]
        if tag == _TEXT and data[1] == _TEXT_2:
            length, start = data[2], 3
            if length >= _ONE_BYTE:
                high, start = data[3], 4
                if not 0 < high < 128:
                    return NOT_PLAIN
                length += (high - 1) << 7
            end = start + length
            if end == len(data) or data[end:] == _EXCLUDED:
                return data[start:end].decode()
            return NOT_PLAIN
        value: Any = data[1]
        end = 2
        if tag == _INT:
            byte, shift = value, 0
            while byte >= _ONE_BYTE:
                byte = data[end]
                value += byte - 1 << (shift := shift + 7)
                end += 1
                if not byte or shift > 56:  # a zero too many, or (ten bytes) a negative number
                    return NOT_PLAIN
        elif tag == _BOOL and value < 2:
            value = value == 1
        elif tag == _FLOAT and len(data) >= _float.size:
            value, end = _float.unpack_from(data)[1], _float.size
        elif tag == _NULL and not value:
            value = None
        else:
            return NOT_PLAIN
        return value if end == len(data) or data[end:] == _EXCLUDED else NOT_PLAIN
    except (IndexError, UnicodeDecodeError):
        return NOT_PLAIN


def rewritten(data: bytes, value: Any) -> bytes | None:
    """What a serialized Value becomes with another value of exactly the same type and its index
    flag kept; equal to `data` when it holds that value. None when one is not plain, or null."""
    type_ = type(value)
    if type_ not in _TYPES:
        return None
    read = read_plain(data)
    if type_ is not type(read):
        return None
    if type_ is int:
        flag = data[2:] if read < _ONE_BYTE else data[1 + (read.bit_length() + 6) // 7 :]
        if 0 <= value < _ONE_BYTE:
            return bytes((_INT, value)) + flag
        if 0 < value < _TWO_BYTES:
            return bytes((_INT, value & 127 | 128, value >> 7)) + flag
        if 0 < value < _INT_END:
            pb = ValuePb()
            pb.integer_value = value
            number: bytes = pb.SerializeToString()
            return number + flag
    elif type_ is str:
        try:
            text: bytes = value.encode()
        except UnicodeEncodeError:
            return None
        length = data[2]
        flag = data[3 + length :] if length < _ONE_BYTE else data[4 + length + (data[3] - 1 << 7) :]
        length = len(text)
        if length < _ONE_BYTE:
            return _TEXT_HEADS[length] + text + flag
        if length < _TWO_BYTES:
            return _TEXT_TAG + bytes((length & 127 | 128, length >> 7)) + text + flag
    elif type_ is bool:
        return _BOOLS[value] + data[2:]
    elif type_ is float:
        if value != value and read != read:
            return data  # NaN is NaN, whatever its bits
        return _float.pack(_FLOAT, value) + data[_float.size :]
    return None

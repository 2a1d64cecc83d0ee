"""Reads and rewrites the most common serialized Values without parsing a message.

A Value is plain if it holds a string below 16 KiB, an integer that is not negative, a boolean, a
float or null, followed by nothing but the index flag, in exactly the bytes that protobuf writes.
All others (with a meaning, serialized differently, damaged) are left to `ValuePb`, which also
reports what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from bulkup.datastore.messages import ValuePb

NOT_PLAIN: Any = type("_NotPlain", (), {})()

_EXCLUDED: bytes = ValuePb(exclude_from_indexes=True).SerializeToString()
_EMPTY_STR: bytes = ValuePb(string_value="").SerializeToString()
_STR_TAG = _EMPTY_STR[:2]  # two bytes, as the field's number is above 15
_STR, _STR_2 = _STR_TAG
_STR_HEADS = [_STR_TAG + bytes((length,)) for length in range(128)]
_INT: int = ValuePb(integer_value=0).SerializeToString()[0]
_BOOL: int = ValuePb(boolean_value=False).SerializeToString()[0]
_BOOLS = bytes((_BOOL, 0)), bytes((_BOOL, 1))
_NULL: int = ValuePb(null_value=0).SerializeToString()[0]
_FLOAT: int = ValuePb(double_value=0.0).SerializeToString()[0]
_float = Struct("<Bd")

# A varint takes one byte for every 7 bits; all but the last byte have the eighth bit set.
_ONE_BYTE, _TWO_BYTES = 1 << 7, 1 << 14
_INT_END = 1 << 63


def read_plain(data: bytes) -> Any:
    """The value of a serialized Value, equal to what `value_codec.decode` returns, or NOT_PLAIN."""
    try:
        tag = data[0]
        if tag == _STR and data[1] == _STR_2:
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
                if (
                    not byte or shift > 56
                ):  # a superfluous zero byte, or (ten bytes) a negative number
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
    """Serialize another value of exactly the same type, with the index flag of `data` kept.

    Returns bytes equal to `data` if it already holds the value. Returns None if `data` or the value
    is not plain, or is null.
    """
    type_ = type(value)
    rewrite = _REWRITERS.get(type_)
    if rewrite is None:
        return None
    read = read_plain(data)
    return rewrite(data, read, value) if type_ is type(read) else None


def _rewritten_int(data: bytes, read: int, value: int) -> bytes | None:
    flag = data[2:] if read < _ONE_BYTE else data[1 + (read.bit_length() + 6) // 7 :]
    if 0 <= value < _ONE_BYTE:
        return bytes((_INT, value)) + flag
    if 0 < value < _TWO_BYTES:
        return bytes((_INT, value & 127 | 128, value >> 7)) + flag
    if 0 < value < _INT_END:
        number: bytes = ValuePb(integer_value=value).SerializeToString()
        return number + flag
    return None


def _rewritten_str(data: bytes, read: str, value: str) -> bytes | None:
    try:
        encoded: bytes = value.encode()
    except UnicodeEncodeError:
        return None
    length = data[2]
    flag = data[3 + length :] if length < _ONE_BYTE else data[4 + length + (data[3] - 1 << 7) :]
    length = len(encoded)
    if length < _ONE_BYTE:
        return _STR_HEADS[length] + encoded + flag
    if length < _TWO_BYTES:
        return _STR_TAG + bytes((length & 127 | 128, length >> 7)) + encoded + flag
    return None


def _rewritten_bool(data: bytes, read: bool, value: bool) -> bytes:
    return _BOOLS[value] + data[2:]


def _rewritten_float(data: bytes, read: float, value: float) -> bytes:
    if value != value and read != read:
        return data  # NaN is NaN, whatever its bits
    return _float.pack(_FLOAT, value) + data[_float.size :]


_REWRITERS: dict[type, Callable[[bytes, Any, Any], bytes | None]] = {
    int: _rewritten_int,
    str: _rewritten_str,
    bool: _rewritten_bool,
    float: _rewritten_float,
}

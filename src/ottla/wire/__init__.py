"""Kafka's wire protocol: one class per message, every version. Importing it loads no message module."""

from ottla.wire.codec import Message, Region, decode, encode, encode_segments
from ottla.wire.failures import DecodeError, EncodeError

__all__ = ["DecodeError", "EncodeError", "Message", "Region", "decode", "encode", "encode_segments"]

"""What goes wrong between bytes and messages: the input's fault (``DecodeError``) or the caller's (``EncodeError``)."""


class DecodeError(ValueError):
    """The bytes are not the message they claim to be. Nothing else escapes a decoder."""


class EncodeError(ValueError):
    """The message cannot be written in that version: a value out of range, null, or in a field it does not have."""

"""Bytes in, bytes out: listeners and connections on bare non-blocking sockets, and the client side's peers."""

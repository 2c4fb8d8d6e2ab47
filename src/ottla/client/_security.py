"""How a client shows itself to a broker: TLS, and SASL with PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.

SASL runs after ApiVersions (KIP-43, KIP-152); the lifetime a broker gives an authentication (KIP-368) is kept by
opening a new connection in time. SCRAM follows RFC 5802 with the server's proof checked, OAUTHBEARER RFC 7628.
"""

import base64
import hashlib
import hmac
import inspect
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from ottla.client._errors import AuthenticationError
from ottla.net.peer import Peer
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode

if TYPE_CHECKING:
    from ssl import SSLContext

RENEW_AT: Final = 0.85
"""The part of an authentication's lifetime after which another connection is used."""
_ITERATIONS_MAX: Final = 1_000_000
_ITERATIONS_MIN: Final = 4096


class Tls(Struct, frozen=True, kw_only=True):
    """Encryption. Files are PEM; without ``ca_file`` the system's certificates are trusted."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = None
    ca_data: str | None = None
    cert_chain_and_key: str | None = None
    """PEM of a certificate and its key instead of files."""
    check_hostname: bool = True
    verify: bool = True

    def context(self) -> "SSLContext":
        """What the ``ssl`` module wants. Raises ``OSError`` for files that cannot be read."""
        import ssl  # noqa: PLC0415 - for those who encrypt

        context = ssl.create_default_context(cafile=self.ca_file, cadata=self.ca_data)
        context.check_hostname = self.check_hostname and self.verify
        if not self.verify:
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file, self.key_password)
        elif self.cert_chain_and_key:
            _load_pem(context, self.cert_chain_and_key, self.key_password)
        return context


class Plain(Struct, frozen=True):
    """SASL/PLAIN. The password goes over the wire: use it with TLS."""

    username: str
    password: str
    mechanism = "PLAIN"

    def __repr__(self) -> str:
        return f"Plain({self.username!r}, ...)"


class ScramSha256(Struct, frozen=True):
    """SASL/SCRAM-SHA-256."""

    username: str
    password: str
    mechanism = "SCRAM-SHA-256"

    def __repr__(self) -> str:
        return f"ScramSha256({self.username!r}, ...)"


class ScramSha512(Struct, frozen=True):
    """SASL/SCRAM-SHA-512."""

    username: str
    password: str
    mechanism = "SCRAM-SHA-512"

    def __repr__(self) -> str:
        return f"ScramSha512({self.username!r}, ...)"


class OAuthBearer(Struct, frozen=True):
    """SASL/OAUTHBEARER. ``token`` is called, and awaited if need be, whenever a connection is opened."""

    token: Callable[[], str | Awaitable[str]]
    extensions: Mapping[str, str] = {}
    mechanism = "OAUTHBEARER"


Sasl = Plain | ScramSha256 | ScramSha512 | OAuthBearer


class Credentials:
    """What ``Peer.connect`` needs: a TLS context and a way to authenticate, either of them perhaps absent."""

    def __init__(self, tls: "bool | Tls | SSLContext" = False, sasl: Sasl | None = None) -> None:
        self.sasl = sasl
        self.context: SSLContext | None
        if isinstance(tls, bool):
            self.context = Tls().context() if tls else None
        else:
            self.context = tls.context() if isinstance(tls, Tls) else tls

    @property
    def authenticate(self) -> Callable[[Peer], Awaitable[float]] | None:
        return None if self.sasl is None else self._authenticate

    async def _authenticate(self, peer: Peer) -> float:
        sasl = self.sasl
        assert sasl is not None
        await _handshake(peer, sasl.mechanism)
        if isinstance(sasl, Plain):
            lifetime = (await _say(peer, f"\0{sasl.username}\0{sasl.password}".encode()))[1]
        elif isinstance(sasl, OAuthBearer):
            lifetime = await _bearer(peer, sasl)
        else:
            lifetime = await _scram(peer, sasl)
        return lifetime * RENEW_AT


async def _handshake(peer: Peer, mechanism: str) -> None:
    from ottla.wire.messages.sasl_handshake_request import SaslHandshakeRequest  # noqa: PLC0415 - loaded on demand

    response = await peer.request(ApiKey.SASL_HANDSHAKE, SaslHandshakeRequest(mechanism=mechanism), 1)
    if response.error_code != ErrorCode.NONE:
        offered = ", ".join(response.mechanisms) or "none"
        raise AuthenticationError(
            ErrorCode.of(response.error_code), f"the broker does not offer {mechanism}; it offers {offered}"
        )


async def _say(peer: Peer, content: bytes) -> tuple[bytes, float]:
    """One step of the exchange: the broker's answer, and for how many seconds it takes us for authenticated."""
    from ottla.wire.messages.sasl_authenticate_request import SaslAuthenticateRequest  # noqa: PLC0415 - as above

    response = await peer.request(ApiKey.SASL_AUTHENTICATE, SaslAuthenticateRequest(auth_bytes=content))
    if response.error_code != ErrorCode.NONE:
        raise AuthenticationError(ErrorCode.of(response.error_code), response.error_message or "wrong credentials")
    return response.auth_bytes, response.session_lifetime_ms / 1000


async def _scram(peer: Peer, sasl: ScramSha256 | ScramSha512) -> float:
    name = "sha256" if isinstance(sasl, ScramSha256) else "sha512"
    user = sasl.username.replace("=", "=3D").replace(",", "=2C")
    nonce = secrets.token_urlsafe(24)
    first = f"n={user},r={nonce}"
    challenge = (await _say(peer, f"n,,{first}".encode()))[0].decode()
    final, expected = scram_proof(name, sasl.password, first, challenge)
    answer, lifetime = await _say(peer, final)
    if not hmac.compare_digest(_attributes(answer.decode()).get("v", ""), expected):
        raise AuthenticationError(ErrorCode.SASL_AUTHENTICATION_FAILED, "the broker does not know the password itself")
    return lifetime


def scram_proof(hash_name: str, password: str, first: str, challenge: str) -> tuple[bytes, str]:
    """The client's final message and the server's signature to expect. Raises ``AuthenticationError``."""
    said = _attributes(challenge)
    nonce, salt, iterations = said.get("r", ""), said.get("s", ""), said.get("i", "")
    ours = _attributes(first)["r"]
    if not (nonce.startswith(ours) and len(nonce) > len(ours) and iterations.isdigit()):
        raise AuthenticationError(ErrorCode.SASL_AUTHENTICATION_FAILED, "the broker's SCRAM challenge is malformed")
    if not _ITERATIONS_MIN <= int(iterations) <= _ITERATIONS_MAX:
        raise AuthenticationError(ErrorCode.SASL_AUTHENTICATION_FAILED, f"the broker asks for {iterations} iterations")
    salted = hashlib.pbkdf2_hmac(hash_name, password.encode(), base64.b64decode(salt), int(iterations))
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    without_proof = f"c=biws,r={nonce}"
    message = f"{first},{challenge},{without_proof}".encode()
    signature = hmac.digest(hashlib.new(hash_name, client_key).digest(), message, hash_name)
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    server_key = hmac.digest(salted, b"Server Key", hash_name)
    expected = base64.b64encode(hmac.digest(server_key, message, hash_name)).decode()
    return f"{without_proof},p={base64.b64encode(proof).decode()}".encode(), expected


async def _bearer(peer: Peer, sasl: OAuthBearer) -> float:
    token = sasl.token()
    text = await token if inspect.isawaitable(token) else token
    extensions = "".join(f"\x01{name}={value}" for name, value in sasl.extensions.items())
    answer, lifetime = await _say(peer, f"n,,\x01auth=Bearer {text}{extensions}\x01\x01".encode())
    if answer:
        # The broker explains itself in JSON and waits for a word before it refuses.
        await _say(peer, b"\x01")
        raise AuthenticationError(ErrorCode.SASL_AUTHENTICATION_FAILED, answer.decode(errors="replace"))
    return lifetime


def _attributes(message: str) -> dict[str, str]:
    return {part[:1]: part[2:] for part in message.split(",") if part[1:2] == "="}


def _load_pem(context: "SSLContext", pem: str, password: str | None) -> None:
    """The ``ssl`` module reads chains from files only."""
    import os  # noqa: PLC0415 - rare
    import tempfile  # noqa: PLC0415

    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(pem)
    try:
        context.load_cert_chain(file.name, None, password)
    finally:
        os.unlink(file.name)

"""Authentication, encryption and authorization. The form of a row is described in ``ottla.config.key``."""

from typing import Final

ROWS: Final = r"""
alter.config.policy.class.name | class | null | low | read-only | any | refused
    Java class that approves configuration changes; not supported.
authorizer.class.name | string | "" | low | read-only | any | refused
    Java class that decides who may do what; authorization is not there yet.
create.topic.policy.class.name | class | null | low | read-only | any | refused
    Java class that approves new topics; not supported.
delegation.token.expiry.check.interval.ms | long | 3600000 | low | read-only | 1.. | planned
    How often expired delegation tokens are removed.
delegation.token.expiry.time.ms | long | 86400000 | medium | read-only | 1.. | planned
    Time after which a delegation token must be renewed.
delegation.token.max.lifetime.ms | long | 604800000 | medium | read-only | 1.. | planned
    Longest life of a delegation token.
delegation.token.secret.key | password | null | medium | read-only | any | refused
    Secret that signs delegation tokens; they are not there yet.
principal.builder.class | class
| org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder | medium | per-broker | any | refused
    Java class that names the user of a connection; only Kafka's default is known.
sasl.client.callback.handler.class | class | null | medium | read-only | any | planned
    Java class for SASL on the client side.
sasl.enabled.mechanisms | list | GSSAPI | medium | per-broker | any | planned
    SASL mechanisms this node offers.
sasl.jaas.config | password | null | medium | per-broker | any | planned
    Login module and credentials in Java's JAAS form.
sasl.kerberos.kinit.cmd | string | /usr/bin/kinit | medium | per-broker | any | planned
    Path of the kinit command.
sasl.kerberos.min.time.before.relogin | long | 60000 | medium | per-broker | any | planned
    Least time between two Kerberos logins.
sasl.kerberos.principal.to.local.rules | list | DEFAULT | medium | per-broker | any | planned
    Rules that shorten a Kerberos principal to a user name.
sasl.kerberos.service.name | string | null | medium | per-broker | any | planned
    Kerberos service name of the broker.
sasl.kerberos.ticket.renew.jitter | double | 0.05 | medium | per-broker | any | planned
    Random share added to the renewal time of a Kerberos ticket.
sasl.kerberos.ticket.renew.window.factor | double | 0.8 | medium | per-broker | any | planned
    Share of a Kerberos ticket's life after which it is renewed.
sasl.login.callback.handler.class | class | null | medium | read-only | any | planned
    Java class for the SASL login.
sasl.login.class | class | null | medium | read-only | any | planned
    Java class that performs the SASL login.
sasl.login.connect.timeout.ms | int | null | low | read-only | any | planned
    Longest wait for a connection to the identity provider.
sasl.login.read.timeout.ms | int | null | low | read-only | any | planned
    Longest wait for an answer of the identity provider.
sasl.login.refresh.buffer.seconds | short | 300 | medium | per-broker | any | planned
    Seconds before expiry in which a credential is not refreshed any more.
sasl.login.refresh.min.period.seconds | short | 60 | medium | per-broker | any | planned
    Least seconds between two refreshes of a credential.
sasl.login.refresh.window.factor | double | 0.8 | medium | per-broker | any | planned
    Share of a credential's life after which it is refreshed.
sasl.login.refresh.window.jitter | double | 0.05 | medium | per-broker | any | planned
    Random share added to the refresh time of a credential.
sasl.login.retry.backoff.max.ms | long | 10000 | low | read-only | any | planned
    Longest pause between two logins.
sasl.login.retry.backoff.ms | long | 100 | low | read-only | any | planned
    First pause between two logins.
sasl.mechanism.controller.protocol | string | GSSAPI | high | read-only | any | planned
    SASL mechanism towards controllers.
sasl.mechanism.inter.broker.protocol | string | GSSAPI | medium | per-broker | any | planned
    SASL mechanism between brokers.
sasl.oauthbearer.assertion.algorithm | string | RS256 | medium | read-only | nocase ES256 RS256 | planned
    Signature algorithm of the assertion sent to the token endpoint.
sasl.oauthbearer.assertion.claim.aud | string | null | medium | read-only | any | planned
    Audience claim of the assertion.
sasl.oauthbearer.assertion.claim.exp.seconds | int | 300 | low | read-only | 0..86400 | planned
    Life of the assertion in seconds.
sasl.oauthbearer.assertion.claim.iss | string | null | medium | read-only | any | planned
    Issuer claim of the assertion.
sasl.oauthbearer.assertion.claim.jti.include | boolean | false | medium | read-only | any | planned
    Whether the assertion carries an id of its own.
sasl.oauthbearer.assertion.claim.nbf.seconds | int | 60 | low | read-only | 0..3600 | planned
    Seconds in the past from which the assertion is valid.
sasl.oauthbearer.assertion.claim.sub | string | null | medium | read-only | any | planned
    Subject claim of the assertion.
sasl.oauthbearer.assertion.file | string | null | medium | read-only | any | planned
    File with a ready assertion.
sasl.oauthbearer.assertion.private.key.file | string | null | medium | read-only | any | planned
    File with the key that signs the assertion.
sasl.oauthbearer.assertion.private.key.passphrase | password | null | medium | read-only | any | planned
    Passphrase of the key that signs the assertion.
sasl.oauthbearer.assertion.template.file | string | null | medium | read-only | any | planned
    File with fixed headers and claims of the assertion.
sasl.oauthbearer.client.credentials.client.id | string | null | medium | read-only | any | planned
    Client id for the client-credentials grant.
sasl.oauthbearer.client.credentials.client.secret | password | null | medium | read-only | any | planned
    Client secret for the client-credentials grant.
sasl.oauthbearer.clock.skew.seconds | int | 30 | low | read-only | any | planned
    Difference allowed between our clock and the identity provider's.
sasl.oauthbearer.expected.audience | list | "" | high | read-only | any | planned
    Audiences a token must name one of.
sasl.oauthbearer.expected.issuer | string | null | high | read-only | any | planned
    Issuer a token must come from.
sasl.oauthbearer.jwks.endpoint.refresh.ms | long | 3600000 | low | read-only | any | planned
    How often the identity provider's keys are read again.
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms | long | 10000 | low | read-only | any | planned
    Longest pause between two reads of the keys.
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms | long | 100 | low | read-only | any | planned
    First pause between two reads of the keys.
sasl.oauthbearer.jwks.endpoint.url | string | null | medium | read-only | any | planned
    Where the identity provider's keys are.
sasl.oauthbearer.jwt.retriever.class | class
| org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever | medium | read-only | any | planned
    Java class that obtains tokens.
sasl.oauthbearer.jwt.validator.class | class
| org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator | medium | read-only | any | planned
    Java class that checks tokens.
sasl.oauthbearer.scope | string | null | medium | read-only | any | planned
    Scope asked for in token requests.
sasl.oauthbearer.scope.claim.name | string | scope | low | read-only | any | planned
    Claim of a token that holds the scope.
sasl.oauthbearer.sub.claim.name | string | sub | low | read-only | any | planned
    Claim of a token that holds the user.
sasl.oauthbearer.token.endpoint.url | string | null | medium | read-only | any | planned
    Where tokens are requested.
sasl.server.callback.handler.class | class | null | medium | read-only | any | planned
    Java class for SASL on the server side.
sasl.server.max.receive.size | int | 524288 | medium | read-only | any | planned
    Largest message accepted before authentication is complete.
security.inter.broker.protocol | string
| PLAINTEXT | medium | read-only | one PLAINTEXT SSL SASL_PLAINTEXT SASL_SSL | refused
    Security protocol between brokers; only PLAINTEXT is there yet.
security.providers | string | null | low | read-only | any | planned
    Java security providers.
ssl.allow.dn.changes | boolean | false | low | read-only | any | planned
    Whether a new certificate may name another subject.
ssl.allow.san.changes | boolean | false | low | read-only | any | planned
    Whether a new certificate may drop alternative names.
ssl.cipher.suites | list | "" | medium | per-broker | any | planned
    Cipher suites allowed; empty means the library's choice.
ssl.client.auth | string | none | medium | per-broker | one required requested none | refused
    Whether clients must show a certificate; TLS is not there yet.
ssl.enabled.protocols | list | TLSv1.2,TLSv1.3 | medium | per-broker | any | planned
    TLS versions allowed.
ssl.endpoint.identification.algorithm | string | https | low | per-broker | any | planned
    How the name in a server's certificate is checked; empty turns it off.
ssl.engine.factory.class | class | null | low | per-broker | any | planned
    Java class that creates TLS engines.
ssl.key.password | password | null | medium | per-broker | any | planned
    Password of the private key.
ssl.keymanager.algorithm | string | SunX509 | medium | per-broker | any | planned
    Java's algorithm for key managers.
ssl.keystore.certificate.chain | password | null | medium | per-broker | any | planned
    Certificate chain in PEM form.
ssl.keystore.key | password | null | medium | per-broker | any | planned
    Private key in PEM form.
ssl.keystore.location | string | null | medium | per-broker | any | planned
    File with the private key and certificates.
ssl.keystore.password | password | null | medium | per-broker | any | planned
    Password of the key store.
ssl.keystore.type | string | JKS | medium | per-broker | any | planned
    Format of the key store.
ssl.principal.mapping.rules | string | DEFAULT | low | read-only | any | planned
    Rules that turn a certificate's name into a user.
ssl.protocol | string | TLSv1.3 | medium | per-broker | any | planned
    TLS version preferred.
ssl.provider | string | null | medium | per-broker | any | planned
    Java security provider for TLS.
ssl.secure.random.implementation | string | null | low | per-broker | any | planned
    Source of randomness for TLS.
ssl.trustmanager.algorithm | string | PKIX | medium | per-broker | any | planned
    Java's algorithm for trust managers.
ssl.truststore.certificates | password | null | medium | per-broker | any | planned
    Trusted certificates in PEM form.
ssl.truststore.location | string | null | medium | per-broker | any | planned
    File with trusted certificates.
ssl.truststore.password | password | null | medium | per-broker | any | planned
    Password of the trust store.
ssl.truststore.type | string | JKS | medium | per-broker | any | planned
    Format of the trust store.
"""

"""The TLS context that REST and exec share.

One context, made once: a new one for each exec would read the authority's certificates again
(several milliseconds). Built without OpenSSL's strict X.509 mode, which Python 3.13 turns on by
default and which refuses the certificates of many real clusters that kubectl accepts.
"""

from __future__ import annotations

import ssl

from pytest_k8snet.errors import KubeconfigError


def context(
    *, verify: bool, ca_file: str | None, cert_file: str | None, key_file: str | None
) -> ssl.SSLContext:
    """A client context for one cluster.

    Args:
        verify: False accepts any certificate (``insecure-skip-tls-verify``).
        ca_file: PEM file with the authorities; None takes the system's.
        cert_file: PEM file with the client certificate, if any.
        key_file: PEM file with its key; None when it is in ``cert_file``.

    Raises:
        KubeconfigError: a certificate or key cannot be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    try:
        if verify and ca_file:
            made.load_verify_locations(cafile=ca_file)
        elif verify:
            made.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except (OSError, ssl.SSLError) as error:
        raise KubeconfigError(
            "the certificate authority of the kubeconfig's cluster cannot be used",
            found=str(error),
            remedy="certificate-authority(-data) must hold PEM certificates (the data in base64)",
        ) from error
    if cert_file:
        try:
            made.load_cert_chain(cert_file, key_file)
        except (OSError, ssl.SSLError) as error:
            raise KubeconfigError(
                "the client certificate of the kubeconfig's user cannot be used",
                found=str(error),
                remedy="client-certificate(-data) and client-key(-data) must be PEM, belong "
                "together, and the key must have no passphrase",
            ) from error
    return made

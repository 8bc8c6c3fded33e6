"""kube-apiserver and etcd from ``KUBEBUILDER_ASSETS``, alone: no controllers, no nodes."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

TOKEN = "contract-admin"
_START_SECONDS = 90


@contextmanager
def running_apiserver(directory: Path) -> Iterator[Path]:
    """Start both, wait until they are ready, and end them; the administrator's kubeconfig."""
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    for name in ("etcd", "kube-apiserver"):
        if not Path(assets, name).is_file():
            pytest.exit(
                f"KUBEBUILDER_ASSETS={assets!r} has no {name}: CONTRIBUTING.md says how to build it"
            )
    etcd, peer, api = (_free_port() for _ in range(3))
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (directory / "account.key").write_bytes(key)
    (directory / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
    with ExitStack() as stack:
        stack.enter_context(
            _process(
                directory / "etcd.log",
                f"{assets}/etcd",
                f"--data-dir={directory / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{etcd}",
                f"--advertise-client-urls=http://127.0.0.1:{etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                "--unsafe-no-fsync",
            )
        )
        server = stack.enter_context(
            _process(
                directory / "kube-apiserver.log",
                f"{assets}/kube-apiserver",
                f"--etcd-servers=http://127.0.0.1:{etcd}",
                f"--cert-dir={directory}",
                f"--secure-port={api}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--service-cluster-ip-range=10.96.0.0/16",
                f"--service-account-key-file={directory / 'account.key'}",
                f"--service-account-signing-key-file={directory / 'account.key'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--token-auth-file={directory / 'tokens.csv'}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
            )
        )
        url = f"https://127.0.0.1:{api}"
        _wait_until_ready(url, directory, server)
        kubeconfig = directory / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(url, directory / "apiserver.crt")))
        yield kubeconfig


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def _process(log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _wait_until_ready(url: str, directory: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
    while time.monotonic() < deadline and server.poll() is None:
        try:
            tls = ssl.create_default_context(cafile=directory / "apiserver.crt")
            urllib.request.urlopen(request, context=tls, timeout=5).close()
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
        else:
            return
    log = (directory / "kube-apiserver.log").read_text()
    pytest.exit(f"kube-apiserver did not become ready:\n{log[-3000:]}")


def _kubeconfig(url: str, authority: Path) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "contract",
        "clusters": [
            {
                "name": "contract",
                "cluster": {"server": url, "certificate-authority": str(authority)},
            }
        ],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "contract", "context": {"cluster": "contract", "user": "admin"}}],
    }

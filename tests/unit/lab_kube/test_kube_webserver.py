from __future__ import annotations

import pytest

from pytest_k8snet.lab.kube.webserver import respond


def get(target: str, *, method: str = "GET", headers: str = "", version: str = "1.1") -> bytes:
    return f"{method} {target} HTTP/{version}\r\nHost: x\r\n{headers}".encode()


def body(response: bytes) -> bytes:
    return response.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("target", "text"),
    [("/", b"k8snet lab\n"), ("/hostname", b"web-1"), ("/healthz", b"ok\n")],
)
def test_known_paths_answer_and_keep_the_connection(target: str, text: bytes) -> None:
    response, filling, keep = respond(get(target), "web-1")
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"Content-Length: {len(text)}\r\n".encode() in response
    assert (body(response), filling, keep) == (text, 0, True)


def test_a_body_of_any_size_can_be_asked_for() -> None:
    response, filling, _ = respond(get("/anything?bytes=1000000"), "h")
    assert b"Content-Length: 1000000\r\n" in response
    assert (body(response), filling) == (b"", 1000000)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get("/none"), b"404 Not Found"),
        (get("/", method="POST"), b"405 Method Not Allowed"),
        (get("/?bytes=x"), b"400 Bad Request"),
        (get("/?bytes=99999999999"), b"400 Bad Request"),
        (b"rubbish", b"400 Bad Request"),
    ],
)
def test_what_it_does_not_know_it_says(request_: bytes, status: bytes) -> None:
    response, filling, _ = respond(request_, "h")
    assert response.startswith(b"HTTP/1.1 " + status)
    assert filling == 0


@pytest.mark.parametrize(
    ("headers", "version", "keep"),
    [
        ("Connection: close\r\n", "1.1", False),
        ("connection: Close\r\n", "1.1", False),
        ("", "1.0", False),
        ("Connection: keep-alive\r\n", "1.0", True),
    ],
)
def test_the_client_decides_about_the_connection(headers: str, version: str, keep: bool) -> None:
    response, _, stays = respond(get("/", headers=headers, version=version), "h")
    assert stays is keep
    assert (b"Connection: close" in response) is not keep


def test_head_has_the_length_but_no_body() -> None:
    response, filling, _ = respond(get("/", method="HEAD"), "h")
    assert b"Content-Length: 11\r\n" in response
    assert (body(response), filling) == (b"", 0)

"""Damaged output gives an error of ours or nothing new: never a figure, never another exception."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from recorded import Recording, recordings

from pytest_k8snet.errors import K8sNetError
from pytest_k8snet.tools import curl, ip, iperf3

SEED = 20261123
#: A byte-by-byte cut of every sample takes minutes; the small ones are cut everywhere.
CUTS_PER_SAMPLE = 60


def cuts(text: str, seed: str) -> list[int]:
    """Positions to cut at that lose more than white space: edges always, the rest at random."""
    body = len(text.rstrip())
    edges = {0, 1, 2, body - 1, body - 2}
    chosen = random.Random(f"{SEED} {seed}").sample(range(body), min(body, CUTS_PER_SAMPLE))
    return sorted(edge for edge in {*edges, *chosen} if 0 <= edge < body)


def is_whole_stream(text: str) -> bool:
    """--json-stream-full-output says everything twice: cut between the two, it is whole."""
    lines = text.rstrip("\n").split("\n")
    return all(line.startswith('{"event"') for line in lines) and lines[-1].startswith(
        '{"event":"end"'
    )


def good(sample: Recording, parse: Callable[[str], object]) -> bool:
    try:
        parse(sample.text)
    except K8sNetError:
        return False
    return True


IPERF3 = [sample for sample in recordings("iperf3") if good(sample, iperf3.parse)]
CURL = [sample for sample in recordings("curl") if good(sample, curl.parse)]


@pytest.mark.parametrize("sample", IPERF3, ids=lambda sample: sample.name)
def test_a_cut_iperf3_output_never_gives_a_figure(sample: Recording) -> None:
    for position in cuts(sample.text, sample.name):
        part = sample.text[:position]
        if is_whole_stream(part) and part.rstrip().endswith("}}"):
            continue
        with pytest.raises(K8sNetError):
            iperf3.parse(part)


def test_one_iperf3_output_cut_at_every_character_never_gives_a_figure() -> None:
    text = next(one.text for one in IPERF3 if one.name == "3.12-tcp-reverse.json")
    for position in range(len(text.rstrip())):
        with pytest.raises(K8sNetError):
            iperf3.parse(text[:position])


@pytest.mark.parametrize("sample", CURL, ids=lambda sample: sample.name)
def test_a_cut_curl_output_never_gives_samples(sample: Recording) -> None:
    expected = len(sample.text.strip().split("\n"))
    for position in cuts(sample.text, sample.name):
        with pytest.raises(K8sNetError):
            curl.parse(sample.text[:position], expected_requests=expected)


@pytest.mark.parametrize("sample", [*IPERF3, *CURL], ids=lambda sample: sample.name)
def test_a_changed_byte_raises_nothing_but_our_errors(sample: Recording) -> None:
    parse: Callable[[str], object] = iperf3.parse if sample in IPERF3 else curl.parse
    chance = random.Random(f"{SEED} {sample.name}")
    for _ in range(CUTS_PER_SAMPLE):
        position = chance.randrange(len(sample.text))
        other = chance.choice('{}[]",:0-9eE.ntf \n\\\x00\ud800')
        try:
            parse(sample.text[:position] + other + sample.text[position + 1 :])
        except K8sNetError as error:
            str(error).encode()  # a message can be written to a file


@pytest.mark.parametrize(
    "parse",
    [
        iperf3.parse,
        curl.parse,
        ip.parse_links,
        lambda text: ip.parse_route(text, "10.0.0.1"),
    ],
    ids=["iperf3", "curl", "links", "route"],
)
def test_garbage_raises_nothing_but_our_errors(parse: Callable[[str], object]) -> None:
    chance = random.Random(SEED)
    letters = '{}[]",:0123456789eE.-+ntfalsrue \n\t\\é\ud83d\x00'
    texts = ["".join(chance.choices(letters, k=chance.randrange(1, 80))) for _ in range(300)]
    texts += ["[" * 100_000, '{"end":' * 50_000, "1" * 10_000, '{"end": ' + "9" * 5000 + "}"]
    texts += ["null", "true", "[]", "{}", '""', "[null]", '{"event": 1}', '{"error": {}}']
    texts += ['{"end": []}', '{"start": 3, "end": {"a": 1}}', '{"end": {"sum_received": 3}}']
    for text in texts:
        try:
            result = parse(text)
        except K8sNetError:
            continue
        assert result == {}, text  # an empty list of links is an answer


@pytest.mark.parametrize(
    "value",
    [None, True, -1, 1.5, "text", [], {}, [1], {"a": 1}, 1e308, 10**400],
    ids=lambda value: repr(value)[:12],
)
def test_any_value_in_any_field_raises_nothing_but_our_errors(value: object) -> None:
    line = json.loads(next(one.text for one in CURL if one.name == "8.23-ok.txt"))
    for name in line:
        try:
            curl.parse(json.dumps({**line, name: value}))
        except K8sNetError:
            continue
    for sample in ("3.12-tcp.json", "3.12-udp.json", "3.12-tcp-bidir.json"):
        text = next(one.text for one in IPERF3 if one.name == sample)
        for path in paths(json.loads(text)):
            try:
                iperf3.parse(json.dumps(replaced(json.loads(text), path, value)))
            except K8sNetError:
                continue


def paths(node: object, base: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    children: list[tuple[str | int, object]] = []
    if isinstance(node, dict):
        children = list(node.items())
    elif isinstance(node, list):
        children = list(enumerate(node))
    found: list[tuple[str | int, ...]] = []
    for key, child in children:
        found += [(*base, key), *paths(child, (*base, key))]
    return found


def replaced(document: object, path: tuple[str | int, ...], value: object) -> object:
    node = document
    for key in path[:-1]:
        node = node[key]  # type: ignore[index]
    node[path[-1]] = value  # type: ignore[index]
    return document

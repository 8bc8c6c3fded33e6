"""What leaves the house: no secret ever, and no name or address where that was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from study_records import study

from pytest_k8snet.cli import main
from pytest_k8snet.report.documents import markdown, render_page
from pytest_k8snet.report.records import Record
from pytest_k8snet.report.redaction import SECRET, Redactor, redacted
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import text_report

CANARY = "canary-0123456789abcdef"


@pytest.mark.parametrize(
    "text",
    [
        f"curl: -H Authorization: Bearer {CANARY}",
        f"authorization: {CANARY}",
        f"Cookie: session={CANARY}",
        f"X-Auth-Token: {CANARY}",
        f"proxy http://user:{CANARY}@proxy:3128/ refused",
        f"https://{CANARY}@gitlab.example/x",
        f"password={CANARY}",
        f'{{"client_secret": "{CANARY}"}}',
        f"sshpass -p {CANARY} ssh bastion",
        f"sshpass -p'{CANARY}' ssh bastion",
        f"['sshpass', '-p', '{CANARY}', 'ssh']",
        f"SSHPASS={CANARY}",
        f"curl -u admin:{CANARY} http://web/",
        f"['curl', '--proxy-user', 'admin:{CANARY}']",
        f"curl --user=admin:{CANARY}",
        f"--token {CANARY}",
        f"['--password', '{CANARY}']",
        f"password='two words {CANARY}'",
        f"passphrase: {CANARY}",
        f"AWS_SECRET_ACCESS_KEY={CANARY}",
        f"private_key={CANARY}",
        f"api-key: {CANARY}",
        f"client-key-data: {CANARY}",
        f"Authorization: Token {CANARY}",
        f'Authorization: Digest username="a", realm="b", response="{CANARY}"',
        f"Authorization: AWS4-HMAC-SHA256 Credential=a/b, Signature={CANARY}",
        f"{{'authorization': '{CANARY}'}}",
        f"Cookie: lang=en; session={CANARY}",
        f'"X-Api-Key": "{CANARY}"',
        f"https://store/?X-Amz-Signature={CANARY}",
        f"https://store/?a=b&sig={CANARY}",
        f"http://u:p@{CANARY}@proxy/",
        "ghp_canary456789012345678901234567890123",
        "glpat-canary45678901234567",
        "k8s-aws-v1.canaryHR0cHM6Ly9zdHMu",
        "ya29.canary78901234567890_and-more",
        "hvs.canaryABCDEFGHIJKLMNOPQRSTU",
        "npm_canary6789012345678901234567890123456",
        "https://hooks.slack.com/services/T00/B00/canary",
        f"token: >-\n  {CANARY}",
        f'{{"auths": {{"registry": {{"auth": "{CANARY}"}}}}}}',
        f"tls.key: {CANARY}",
        f"-----BEGIN EC PRIVATE KEY-----\n{CANARY}\n-----END EC PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{CANARY} and cut off",
        "token eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJjYW5hcnkifQ.c2lnbmF0dXJlLWNhbmFyeQ",
    ],
)
def test_what_has_the_form_of_a_secret_is_hidden_whoever_wrote_it(text: str) -> None:
    found = Redactor().text(text)
    assert SECRET in found
    assert "canary" not in found
    assert "eyJpc3M" not in found


@pytest.mark.parametrize(
    "text",
    [
        "log in again or renew the token or certificate in the kubeconfig",
        "a user of basic authentication",
        'User "jane" cannot list resource "secrets" in API group ""',
        "secret k8snet/registry is not there",
        "https://server:6443/api/v1",
        '"cookie":\t"abcdefghijklmnopqrstuvwxyz"',
        "imagePullSecrets: registry",
        '"serviceAccountToken": {"path": "token"}',
        "iperf3 -c 10.0.0.1 -u -b 10M -p 5201",
        "3 gates: pass=2 fail=1",
        "any proxy that drops the Authorization header",
        "tls.key: no such file or directory",
        "http://web/?email=a@b.example",
        "/home/alice/token/x --user alice",
    ],
)
def test_what_only_speaks_of_secrets_stays(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize("part", ["a-", "key-", "a+", "--", "-u a", "Bearer "])
def test_long_output_is_read_in_one_go(part: str) -> None:
    # With a pattern that looks back and forth this takes minutes.
    assert Redactor().text(part * 20_000) == part * 20_000


def test_values_that_are_known_to_be_secret_are_hidden_everywhere() -> None:
    redactor = Redactor(
        environ={"DOCKER_AUTH_CONFIG": CANARY, "HOME": "/home/alice", "A_SECRET": "x"}
    )
    redactor.learn_secrets("from-the-kubeconfig")
    renewed = ["of-the-first-hour"]
    redactor.sources.append(lambda: renewed)
    record = redactor.record(
        {"raw": f"{CANARY} /home/alice x", "deep": [{"from-the-kubeconfig": "of-the-first-hour"}]}
    )
    assert record == {"raw": f"{SECRET} /home/alice x", "deep": [{SECRET: SECRET}]}
    renewed[0] = "of-the-second-hour"
    assert redactor.text("of-the-second-hour") == SECRET


@pytest.mark.parametrize(
    "name",
    [
        *("SIGNING_KEY", "GITHUB_PAT", "DB_PASS", "MY_PWD", "NPM_AUTH", "SLACK_WEBHOOK"),
        *("SSHPASS", "PGPASSWORD", "AWS_ACCESS_KEY_ID", "KEY_PASSPHRASE"),
    ],
)
def test_variables_are_secret_by_their_names(name: str) -> None:
    assert Redactor(environ={name: CANARY}).text(f"x {CANARY}") == f"x {SECRET}"


@pytest.mark.parametrize(
    "name", ["PATH", "PWD", "OLDPWD", "SSH_AUTH_SOCK", "KEYBOARD", "XAUTHORITY"]
)
def test_folders_and_sockets_are_no_secrets(name: str) -> None:
    assert Redactor(environ={name: "/run/user/1"}).text("in /run/user/1") == "in /run/user/1"


def test_a_password_in_the_url_of_any_variable_is_a_secret() -> None:
    redactor = Redactor(environ={"DATABASE": f"postgres://u:{CANARY}%21@db/x"})
    assert redactor.text(f"{CANARY}! {CANARY}%21 u db") == f"{SECRET} {SECRET} u db"


@pytest.mark.parametrize(
    "written",
    ['canary "0/1+2"', 'canary \\"0/1+2\\"', "canary%20%220%2F1%2B2%22", "Y2FuYXJ5ICIwLzErMiI="],
    ids=["as it is", "in JSON", "in a URL", "in a Secret"],
)
def test_a_known_secret_is_hidden_however_it_is_written(written: str) -> None:
    redactor = Redactor()
    redactor.learn_secrets('canary "0/1+2"')
    assert redactor.text(f"<{written}>") == f"<{SECRET}>"


def site() -> Redactor:
    redactor = Redactor(names=True)
    redactor.learn_server("https://api.prod.corp.example:6443")
    redactor.learn("node", "node1", "ip-10-0-0-7.prod.corp.example")
    redactor.learn("user", "alice")
    return redactor


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://api.prod.corp.example:6443/api", "https://server-1:6443/api"),
        ("other.prod.corp.example", "other.domain-1"),
        ("node1: cordoned", "node-1: cordoned"),
        ("pod k8snet-abc-client-node1-1", "pod k8snet-abc-client-node-1-1"),
        ("node10 node1x", "node10 node1x"),
        ("ip-10-0-0-7 up", "node-2 up"),
        ("/home/alice/prod.yaml", "/home/user-1/prod.yaml"),
        ("10.0.0.1, 10.0.0.2/24 and 10.0.0.1:443.", "address-1, address-2/24 and address-1:443."),
        ("fd00::1 via fe80::a%eth0", "address-1 via address-2%eth0"),
        ("[2001:db8:0:0::1]:443", "[address-1]:443"),
        ("fd00::1 is FD00:0:0:0:0:0:0:1", "address-1 is address-1"),
        ("::ffff:10.0.0.9", "address-1"),
        ("link/ether 02:42:AC:11:00:02", "link/ether mac-1"),
        ("127.0.0.1 ::1 0.0.0.0/0 169.254.1.1", "127.0.0.1 ::1 0.0.0.0/0 169.254.1.1"),
        ("12:30:45 2026-11-30T12:30:45Z 1.2.3", "12:30:45 2026-11-30T12:30:45Z 1.2.3"),
        ('{"remote_host":"10.0.0.1"}', '{"remote_host":"address-1"}'),
    ],
)
def test_names_and_addresses_are_replaced_in_free_text(text: str, wanted: str) -> None:
    assert site().text(text) == wanted


def test_the_same_name_is_the_same_word_from_record_to_record() -> None:
    redactor = site()
    first = redactor.record({"kind": "sample", "scene": "node-node", "client": {"node": "node1"}})
    assert first == {"kind": "sample", "scene": "node-node", "client": {"node": "node-1"}}
    assert redactor.text("10.1.1.1 10.1.1.2") == redactor.text("10.1.1.1 10.1.1.2")


def test_without_being_asked_names_stay() -> None:
    redactor = Redactor()
    redactor.learn("node", "node1")
    assert redactor.text("node1 10.0.0.1") == "node1 10.0.0.1"


#: What the study's records name: its server, user, host, nodes and addresses.
NAMED = (
    "192.168.0.",
    "192.168.1.",
    "10.244.",
    "alice",
    "bastion",
    "node1",
    "node2",
    "fd00:",
)


def study_with_trouble() -> list[Record]:
    made = study()
    trouble = "pod k8snet-a-client-node2-1 on node2 (192.168.1.13, 10.244.1.2, fd00::11) is gone"
    made.append({**made[-1], "kind": "test", "test": "t", "outcome": "error", "reason": trouble})
    made[-1], made[-2] = made[-2], made[-1]
    return made


def outputs(records: list[Record]) -> dict[str, str]:
    return {
        "results": json.dumps(records),
        "page": render_page(records),
        "markdown": markdown(records),
        "terminal": "\n".join(text_report(summarise(records))),
    }


def test_a_redacted_run_names_nothing_in_any_output() -> None:
    told = " ".join(outputs(study_with_trouble()).values())
    assert [name for name in NAMED if name not in told] == []
    for output, text in outputs(redacted(study_with_trouble())).items():
        assert [name for name in NAMED if name in text] == [], output
    # The figures are those of before.
    assert text_report(summarise(redacted(study())))[:3] == text_report(summarise(study()))[:3]
    assert "node-1" in render_page(redacted(study()))


def test_report_and_export_redact_a_file_that_exists(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    results, page = tmp_path / "results.jsonl", tmp_path / "page.html"
    results.write_text("".join(json.dumps(one) + "\n" for one in study_with_trouble()))
    assert main(["report", str(results), "-o", str(page), "--redact"]) == 0
    assert main(["export", str(results), "--format", "csv", "--redact"]) == 0
    for text in (page.read_text(), capsys.readouterr().out.partition("\n")[2]):
        assert [name for name in NAMED if name in text] == []

"""The answers are read back by dnslib, which knows nothing of our encoding."""

from __future__ import annotations

import dnslib
import pytest

from pytest_k8snet.lab.kube import dnsserver
from pytest_k8snet.lab.kube.services import dns_records

DOMAIN = "cluster.local"
WEB = "web.shop.svc.cluster.local"
NAMES = {WEB: ["10.96.0.77"], f"pods.shop.svc.{DOMAIN}": ["10.244.0.1", "10.244.0.2"]}


def ask(
    name: str, kind: str = "A", *, names: dict[str, list[str]] = NAMES, limit: int = 512
) -> dnslib.DNSRecord:
    request = dnslib.DNSRecord.question(name, kind)
    response = dnsserver.answer(request.pack(), DOMAIN, names, limit=limit)
    assert response is not None
    parsed = dnslib.DNSRecord.parse(response)
    assert parsed.header.id == request.header.id
    assert parsed.header.get_qr() == 1
    return parsed


def addresses(record: dnslib.DNSRecord) -> list[str]:
    return [str(answer.rdata) for answer in record.rr]


def test_a_service_has_its_address() -> None:
    record = ask(WEB)
    assert addresses(record) == ["10.96.0.77"]
    assert str(record.rr[0].rname) == f"{WEB}."
    assert record.q.qname == f"{WEB}."


def test_names_do_not_care_for_case() -> None:
    assert addresses(ask(WEB.upper())) == ["10.96.0.77"]


def test_a_headless_service_has_the_addresses_of_its_pods() -> None:
    assert addresses(ask(f"pods.shop.svc.{DOMAIN}")) == ["10.244.0.1", "10.244.0.2"]


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        (WEB, "AAAA", "NOERROR"),
        (f"shop.svc.{DOMAIN}", "A", "NOERROR"),
        (f"none.shop.svc.{DOMAIN}", "A", "NXDOMAIN"),
        (f"{WEB}.shop.svc.{DOMAIN}", "A", "NXDOMAIN"),
        ("example.org", "A", "REFUSED"),
    ],
)
def test_what_has_no_address_is_answered_at_once(name: str, kind: str, code: str) -> None:
    record = ask(name, kind)
    assert dnslib.RCODE.get(record.header.rcode) == code
    assert record.rr == []


def test_too_long_an_answer_is_cut_and_marked() -> None:
    many = {WEB: [f"10.244.1.{number}" for number in range(200)]}
    short = ask(WEB, names=many)
    assert short.header.get_tc() == 1
    assert 0 < len(short.rr) < 200
    whole = ask(WEB, names=many, limit=65535)
    assert whole.header.get_tc() == 0
    assert len(whole.rr) == 200


@pytest.mark.parametrize("length", range(12, 40))
def test_a_cut_off_request_is_a_format_error(length: int) -> None:
    request = dnslib.DNSRecord.question(WEB).pack()[:length]
    response = dnsserver.answer(request, DOMAIN, NAMES, limit=512)
    assert response is not None
    assert dnslib.RCODE.get(dnslib.DNSHeader.parse(dnslib.DNSBuffer(response)).rcode) == "FORMERR"


def test_what_is_no_request_gets_no_answer() -> None:
    assert dnsserver.answer(b"\0" * 11, DOMAIN, NAMES, limit=512) is None
    reply = dnslib.DNSRecord.question(WEB).reply().pack()
    assert dnsserver.answer(reply, DOMAIN, NAMES, limit=512) is None


def test_another_operation_is_not_implemented() -> None:
    request = dnslib.DNSRecord(dnslib.DNSHeader(opcode=dnslib.OPCODE.UPDATE)).pack()
    response = dnsserver.answer(request, DOMAIN, NAMES, limit=512)
    assert response is not None
    assert dnslib.RCODE.get(dnslib.DNSRecord.parse(response).header.rcode) == "NOTIMP"


def test_records_are_made_of_services_and_of_the_pods_behind_headless_ones() -> None:
    def service(name: str, address: str) -> dict[str, object]:
        return {"metadata": {"name": name, "namespace": "shop"}, "spec": {"clusterIP": address}}

    endpoints = {
        "metadata": {"name": "pods", "namespace": "shop"},
        "subsets": [{"addresses": [{"ip": "10.244.0.1"}, {"ip": "10.244.0.2", "hostname": "b"}]}],
    }
    services = [service("web", "10.96.0.77"), service("pods", "None"), service("empty", "None")]
    assert dns_records(services, [endpoints], DOMAIN) == {
        WEB: ["10.96.0.77"],
        "pods.shop.svc.cluster.local": ["10.244.0.1", "10.244.0.2"],
        "10-244-0-1.pods.shop.svc.cluster.local": ["10.244.0.1"],
        "b.pods.shop.svc.cluster.local": ["10.244.0.2"],
        "empty.shop.svc.cluster.local": [],
    }

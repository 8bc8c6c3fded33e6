"""What leaves the house: secrets never, and names and addresses only where nobody asked for that.

Works on records and on text alike. The same name is replaced by the same word everywhere, so that a
redacted report can be read: ``node-1`` is one node. Pure.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

from pytest_k8snet.report.records import Record, mapping, objects, words

SECRET = "[secret]"

#: Variables of the environment whose values are secrets, by their names. PWD and OLDPWD are
#: folders, and SSH_AUTH_SOCK is a socket.
_SECRET_NAMES = re.compile(
    r"TOKEN|PASSW|PASSPHRASE|SECRET|CREDENTIAL|WEBHOOK|API_?KEY"
    r"|(?:^|_)(?:PASS|SSHPASS|PAT|KEY|AUTH|AUTH_CONFIG|SIG|SIGNATURE)$|_PWD$|KEY_ID$|PRIVATE_?KEY|ACCESS_?KEY",
    re.IGNORECASE,
)
#: A shorter value is no secret, and would be found in innocent words.
_SHORTEST_SECRET = 6
#: What stands before a value in text, JSON, YAML, or a list of arguments as Python prints it.
_IS = r"[\"']?\s*[=:]\s*(?:[>|][+-]?\s+)?[\"']?"
_NEXT = r"[\"']?(?:=|,?[ \t]+)[\"']?"
_NAMED = (
    r"(?:token|password|passwd|passphrase|secret|(?:api|access|private|secret|signing)[_-]?key"
    r"|access[_-]?key[_-]?id|key-data|sshpass|signature)"
)
_WORD = r"[^\s\"',;&]+"
#: Secrets that are known by their form: PEM keys, tokens, what follows "Bearer" or stands for a
#: user and password in headers, URLs and arguments, cookies.
_FORMS = re.compile(
    r"(?P<pem>-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z))"
    r"|(?P<token>\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|\bgh[opusr]_\w{20,}|\bgithub_pat_\w{20,}"
    r"|\bglpat-[\w-]{16,}|\bxox[a-z]-[\w-]{10,}|\bA[KS]IA[0-9A-Z]{16}|\bk8s-aws-v1\.[\w+/=-]{16,}"
    r"|\bya29\.[\w-]{20,}|\bhv[bs]\.[\w-]{20,}|\bnpm_\w{30,}"
    r"|(?<=\bhooks\.slack\.com/services/)[\w/]+)"
    # Attributes may follow, as those of Digest.
    rf"|(?P<header>\b(?:Proxy-)?Authorization{_IS}(?:(?:Bearer|Basic|Negotiate)[ \t]+)?)"
    rf"(?:[A-Za-z][\w-]*[ \t]+)?(?:\w+=\"[^\"]*\"|{_WORD})(?:,?[ \t]*\w+=(?:\"[^\"]*\"|{_WORD}))*"
    rf"|(?P<cookies>\b(?:Set-)?Cookie:\s*){_WORD}(?:;\s*{_WORD})*"
    r"|(?P<before>\b(?:Bearer|Basic|Negotiate)\s+(?=[\w+/=.~-]{16})"
    rf"|\bX-[\w-]{{0,40}}(?:Token|Key|Secret|Auth)[\w-]{{0,40}}{_IS}"
    rf"|\bsshpass[\"']?,?\s*[\"']?-p[\"',\s]*"
    rf"|(?<![\w-])(?:-u|-U|--user|--proxy-user){_NEXT}[^\s:\"',/]+:(?!//)"
    rf"|(?<![\w-])--[\w-]{{0,40}}{_NAMED}{_NEXT}"
    r"|[?&](?:key|sig|auth)="
    # Of a Secret, and of a Docker configuration.
    rf"|\btls\.key{_IS}(?=[\w+/=-]{{16}})|[\"']auth{_IS}(?=[\w+/=-]{{8}})"
    r"|(?:\b|_)(?:pass|pwd|pat)=(?=[^\s/]{8})"
    rf"|{_NAMED}{_IS})"
    # What opens a JSON object or list is no value.
    rf"(?:(?<=\")[^\"\n]+|(?<=')[^'\n]+|(?![\[{{]){_WORD})"
    r"|(?P<scheme>\b[a-z][a-z0-9+.-]{0,20}://)(?P<login>[^\s/\"']+)@",
    re.IGNORECASE | re.DOTALL,
)

#: Fields of records by which reports group and count: words of ours, never names of a site.
_OURS = frozenset(
    {
        *("schema", "kind", "run", "time", "id", "samples", "started", "tool_version", "plan"),
        *("scene", "placement", "mode", "tool", "state", "outcome", "phase", "expected"),
        *("quantity", "unit", "relation", "strategy", "shape", "family"),
    }
)

_IPV4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)"
_IPV6 = (
    r"(?<![\w:.])(?:[0-9a-fA-F]{0,4}:){2,7}"
    r"(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9a-fA-F]{1,4})?(?![\w:])"
)
_MAC = r"(?<![\w:])(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}(?![\w:])"
#: Addresses that are the same on every machine; 169.254.1.1 is each pod's gateway in Calico.
_EVERYBODYS = frozenset({"127.0.0.1", "0.0.0.0", "255.255.255.255", "169.254.1.1", "::", "::1"})


class Redactor:
    """Replaces secrets, and where it is asked for names and addresses, in all that is written.

    Args:
        names: whether names and addresses go as well.
        environ: where values of secret variables come from.
    """

    def __init__(self, *, names: bool = False, environ: Mapping[str, str] | None = None) -> None:
        self.names = names
        #: Asked for secrets each time: tokens are renewed.
        self.sources: list[Callable[[], Iterable[str]]] = []
        self._secrets = {
            value
            for name, value in (environ or {}).items()
            if _SECRET_NAMES.search(name) and len(value) >= _SHORTEST_SECRET
        }
        # Only what may hold a login loads what reads it: a run that measures nothing stays light.
        for value in (value for value in (environ or {}).values() if ":" in value and "@" in value):
            from pytest_k8snet.cluster.kubeconfig import passwords_in

            self.learn_secrets(*passwords_in(value))
        self._words: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._pattern: re.Pattern[str] | None = None

    def learn_secrets(self, *values: str) -> None:
        """Replace these values, whether names are to go or not."""
        self._secrets.update(value for value in values if len(value) >= _SHORTEST_SECRET)

    def learn(self, kind: str, *values: str) -> None:
        """Hide these names from now on, each behind a word such as ``node-1``.

        Of a node's name in a domain the first label is the same host, and the domain has others.
        """
        for value in values:
            if len(value) < 2 or value in self._words or _is_address(value):
                continue
            word = self._word(kind, value)
            label, dot, domain = value.partition(".")
            if dot and "/" not in value:
                if kind in ("node", "host"):
                    self._words.setdefault(label, word)
                if "." in domain:
                    self._word("domain", domain)
            self._pattern = None

    def learn_server(self, url: str) -> None:
        """Hide a server's host; whoever connects by a URL that is none says so."""
        with suppress(ValueError):
            self.learn("server", *filter(None, [urlsplit(url).hostname]))

    def learn_record(self, record: Mapping[str, Any]) -> None:
        """Hide what a record names: the user and host of a run, its cluster and its nodes."""
        kind = record.get("kind")
        if kind == "run":
            self.learn("user", words(record.get("user")))
            self.learn("host", words(record.get("host")))
            settings = mapping(record.get("settings"))
            values = {
                name: words(mapping(settings.get(name)).get("value"))
                for name in ("kubeconfig", "context", "nodes", "outside", "image", "web_image")
            }
            path = values["kubeconfig"]
            self.learn("kubeconfig", path, path.rpartition("/")[2])
            self.learn("context", values["context"])
            self.learn("node", *values["nodes"].split())
            self.learn("host", *_hosts_of(values["outside"].split()))
            for image in (values["image"], values["web_image"]):
                registry = image.partition("/")[0]
                if "." in registry and registry not in ("docker.io", "registry.k8s.io"):
                    self.learn("registry", registry)
        elif kind == "sample":
            for end in (mapping(record.get("client")), mapping(record.get("server"))):
                outside = end.get("kind") == "outside"
                self.learn("node", words(end.get("node")))
                self.learn("host", words(end.get("name")) if outside else "")
        elif kind == "facts":
            cluster = mapping(record.get("cluster"))
            self.learn_server(words(cluster.get("server")))
            self.learn("context", words(cluster.get("context")))
            self.learn("node", *(words(one.get("name")) for one in objects(record.get("nodes"))))

    def text(self, text: str) -> str:
        """Return a text without secrets, and without names where that is asked for."""
        known = {*self._secrets, *(one for ask in self.sources for one in ask())}
        for secret in sorted(known, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                for spelling in _spellings(secret):
                    text = text.replace(spelling, SECRET)
        text = _FORMS.sub(_hidden, text)
        return self._compiled().sub(self._replaced, text) if self.names else text

    def record(self, record: Mapping[str, Any]) -> Record:
        """Return a record without them; the fields that reports group by stay."""
        if self.names:
            self.learn_record(record)
        return {
            key: value if _is_ours(key, value) else self.value(value)
            for key, value in record.items()
        }

    def value(self, value: Any) -> Any:
        """Return a JSON value without them."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                (name if name in _OURS else self.text(str(name))): (
                    one if isinstance(one, str) and _is_ours(name, one) else self.value(one)
                )
                for name, one in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        return value

    def in_place(self, thing: Any) -> Any:
        """Redact every text that a pytest report holds; returns it."""
        if isinstance(thing, str):
            return self.text(thing)
        if isinstance(thing, list):
            thing[:] = [self.in_place(one) for one in thing]
        elif isinstance(thing, tuple):
            return tuple(self.in_place(one) for one in thing)
        elif is_dataclass(thing) and not isinstance(thing, type):
            for one in fields(thing):
                # Those of pytest are frozen in part; nothing else writes to them any more.
                object.__setattr__(thing, one.name, self.in_place(getattr(thing, one.name)))
        return thing

    def _compiled(self) -> re.Pattern[str]:
        if self._pattern is None:
            names = sorted(self._words, key=len, reverse=True)
            known = "|".join(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])" for name in names)
            self._pattern = re.compile("|".join(filter(None, (known, _IPV4, _MAC, _IPV6))))
        return self._pattern

    def _replaced(self, match: re.Match[str]) -> str:
        found = match[0]
        if found in self._words:
            return self._words[found]
        if re.fullmatch(_MAC, found):
            return self._word("mac", found.lower())
        try:
            address = str(ip_address(found))
        except ValueError:
            return found  # a time of day, say
        return found if address in _EVERYBODYS else self._word("address", address)

    def _word(self, kind: str, value: str) -> str:
        if value not in self._words:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._words[value] = f"{kind}-{self._counts[kind]}"
        return self._words[value]


def redacted(records: Sequence[Mapping[str, Any]]) -> list[Record]:
    """Return the records of a results file without names, addresses and secrets."""
    redactor = Redactor(names=True)
    # What a later record names may stand in an earlier one.
    for record in records:
        redactor.learn_record(record)
    return [redactor.record(record) for record in records]


def _is_ours(key: str, value: object) -> bool:
    """Tell whether a field holds words of ours; a scene may name the host of a URL."""
    return key in _OURS and not (key == "scene" and "." in str(value))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return text == "localhost"
    return True


def _hidden(match: re.Match[str]) -> str:
    if match["scheme"]:
        return f"{match['scheme']}{SECRET}@"
    return f"{match['header'] or match['cookies'] or match['before'] or ''}{SECRET}"


@lru_cache(maxsize=256)
def _spellings(secret: str) -> tuple[str, ...]:
    """Return how a secret may be written: as it is, in JSON, in a URL, in a Secret's data."""
    return tuple(
        dict.fromkeys(
            (
                secret,
                json.dumps(secret)[1:-1],
                quote(secret, safe=""),
                b64encode(secret.encode()).decode(),
            )
        )
    )


def _hosts_of(prefix: Sequence[str]) -> list[str]:
    """Return what a command prefix such as ``ssh me@bastion`` names, but for the program."""
    named = [word for word in prefix[1:] if not word.startswith("-") and not word.isdigit()]
    return [part for word in named for part in re.split(r"[@,]", word)]

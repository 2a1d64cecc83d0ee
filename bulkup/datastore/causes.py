"""Finds out why a connection failed, from the messages of gRPC and Google's authentication."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

_NO_GRPC_PROXY, _NO_PROXY = "no_grpc_proxy", "no_proxy"

PROXY_VARIABLES = "grpc_proxy", "https_proxy", "http_proxy"
"""The variables that gRPC reads, in its order. It reads only these lower-case names."""

_BEHIND_A_GATEWAY = {"502", "503", "504"}


class Cause(NamedTuple):
    """What is wrong, as the middle of a sentence, and what to do about it."""

    problem: str
    advice: str
    is_final: bool = False
    """Waiting does not help."""


Say = Callable[["re.Match[str]", str], Cause]
"""Takes the match in the error's details, and the address."""


def _proxy_answers(found: re.Match[str], address: str) -> Cause:
    wants = "put the user and the password into it" if found[1] == "407" else "check it"
    variable = proxy_variable(os.environ)
    return Cause(
        f"the proxy that {variable or 'the environment'} names refuses to connect (HTTP "
        f"{found[1]})",
        f"{wants}, or exempt this address with no_proxy",
    )


def _not_trusted(found: re.Match[str], address: str) -> Cause:
    return Cause(
        "its TLS certificate is not trusted: CERTIFICATE_VERIFY_FAILED",
        "if a proxy inspects TLS here, set GRPC_DEFAULT_SSL_ROOTS_FILE_PATH and REQUESTS_CA_BUNDLE "
        "to a PEM file with its CA certificate, and run again",
        is_final=True,
    )


def _tls_failed(found: re.Match[str], address: str) -> Cause:
    spoken = re.search(r"OPENSSL_internal:(\w+)", found.string)
    reason = f": {spoken[1]}" if spoken else ""
    return Cause(
        f"the TLS handshake failed{reason}",
        "check that the address and port speak TLS, and that no proxy or firewall is between",
        is_final=spoken is not None,
    )


def _no_such_name(found: re.Match[str], address: str) -> Cause:
    return Cause("its name could not be resolved by DNS", "check the name, DNS and the VPN")


def _http_answer(found: re.Match[str], address: str) -> Cause:
    status = next((group for group in found.groups() if group), "")
    if status in _BEHIND_A_GATEWAY:
        return Cause(
            f"a proxy or load balancer answered HTTP {status}: it reaches no Datastore",
            "check what is behind it, and run again",
        )
    answered = f" (HTTP {status})" if status else ""
    return Cause(
        f"it answers like a web server, not like a Datastore{answered}",
        "check the address and the port",
    )


def _refused(found: re.Match[str], address: str) -> Cause:
    variable = "" if is_loopback(address) else proxy_variable(os.environ)
    if variable and not _is_exempt(address, os.environ):
        return Cause(
            f"connection refused by the proxy that {variable} names",
            f"check {variable}, or exempt this address with no_proxy",
        )
    return Cause("connection refused", "check the network connection and the firewall")


def _unreachable(found: re.Match[str], address: str) -> Cause:
    return Cause(
        f"network unreachable: {found[0].lower()}", "check the network connection and the VPN"
    )


def _silent(found: re.Match[str], address: str) -> Cause:
    return Cause("it does not answer", "check the network connection and the firewall")


_CAUSES: tuple[tuple[str, Say], ...] = (
    (r"proxy returned response code (\d+)", _proxy_answers),
    (r"tunnel connection failed: (\d+)", _proxy_answers),
    (r"certificate_?[ ]?verify_?[ ]?failed", _not_trusted),
    (r"ssl_error|tls handshake|ssl handshake|sslerror|handshake failed", _tls_failed),
    (
        r"errors? resolving|resolution (failed|error)|nameresolution|name (or service )?not (found"
        r"|known)|lookup failed|failed to resolve|getaddrinfo|no address associated",
        _no_such_name,
    ),
    (
        r"http2 header with status: (\d+)|http1\.x server(?: \(http status (\d+)\))?"
        r"|failed parsing http/2|expected settings frame|content-type: ?'?text/html",
        _http_answer,
    ),
    (r"connection refused|actively refused", _refused),
    (r"network is unreachable|no route to host|host is (down|unreachable)", _unreachable),
    (r"timed? ?out|timeout|deadline", _silent),
)


_MAY_NEED_A_PROXY = _no_such_name, _refused, _unreachable, _silent


def cause_of(details: str, address: str) -> Cause | None:
    """The cause of a failed connection or call; None if it is not recognized."""
    for pattern, say in _CAUSES:
        found = re.search(pattern, details, re.IGNORECASE)
        if found:
            cause = say(found, address)
            misses_proxy = say in _MAY_NEED_A_PROXY and not is_loopback(address)
            unread = unread_proxy_variable(os.environ) if misses_proxy else ""
            if unread:
                hint = f"gRPC reads {unread.lower()} and not {unread}: set it if a proxy is needed"
                return cause._replace(advice=f"{cause.advice}; {hint}")
            return cause
    return None


NO_CREDENTIALS = (
    "no usable Google credentials: run `gcloud auth application-default login`, set "
    "GOOGLE_APPLICATION_CREDENTIALS, or point DATASTORE_EMULATOR_HOST at an emulator"
)

_OF_THE_TOKEN_SERVER = re.compile(
    r"transporterror|max retries exceeded|connectionerror|connection (aborted|reset|error)"
    r"|proxyerror|sslerror|certificate.?verify.?failed|failed to (resolve|establish)|timed out",
    re.IGNORECASE,
)
_EXPIRED = re.compile(r"invalid_grant|invalid_rapt|reauth|expired|revoked", re.IGNORECASE)


def credentials_problem(details: str) -> str:
    """A sentence for the user about credentials that do not work."""
    if _OF_THE_TOKEN_SERVER.search(details):
        cause = cause_of(details, "") or Cause("it does not answer", "check the network connection")
        return (
            "the server that issues Google access tokens could not be reached "
            f"({cause.problem}); {cause.advice}"
        )
    if _EXPIRED.search(details):
        return (
            "no usable Google credentials: they have expired or were revoked; run `gcloud auth "
            "application-default login`, or use another service account key"
        )
    return NO_CREDENTIALS


def is_loopback(address: str) -> bool:
    """Whether host:port is on this machine."""
    host = address.rpartition(":")[0].strip("[]") or address
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_variable(environment: Mapping[str, str]) -> str:
    """The variable that gives gRPC its proxy; empty if there is none."""
    return next((name for name in PROXY_VARIABLES if environment.get(name)), "")


def unread_proxy_variable(environment: Mapping[str, str]) -> str:
    """A variable that names a proxy but that gRPC does not read; empty if there is none, or if gRPC
    has a proxy."""
    if proxy_variable(environment):
        return ""
    names = (name.upper() for name in PROXY_VARIABLES)
    return next((name for name in names if environment.get(name)), "")


def _is_exempt(address: str, environment: Mapping[str, str]) -> bool:
    exempt = environment.get(_NO_GRPC_PROXY) or environment.get(_NO_PROXY) or ""
    host = address.rpartition(":")[0]
    return any(name.strip() and host.endswith(name.strip()) for name in exempt.split(","))


def spare_loopback_the_proxy() -> None:
    """Exempt loopback from the proxy, in the environment. A proxy cannot reach this machine's
    loopback, but clients that the updater creates would send their calls through it."""
    if not proxy_variable(os.environ):
        return
    name = _NO_GRPC_PROXY if os.environ.get(_NO_GRPC_PROXY) else _NO_PROXY
    # `requests` reads NO_PROXY only if there is no no_proxy.
    exempt = (os.environ.get(name) or os.environ.get("NO_PROXY") or "").split(",")
    ours = [host for host in ("localhost", "127.0.0.1", "::1") if host not in exempt]
    os.environ[name] = ",".join([*filter(None, exempt), *ours])

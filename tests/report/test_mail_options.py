from __future__ import annotations

from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.core.errors import UsageError
from bulkup.report import MailSettings, mail_settings

TO = ["a@example.com"]
FROM = "bulkup@example.com"
SECRET = "hunter2/x"
ENVIRON = {"BULKUP_SMTP_PASSWORD": SECRET}


def settings(smtp: str, *, plain: bool = False, environ: dict[str, str] = ENVIRON) -> MailSettings:
    found = mail_settings(TO, FROM, smtp, plain=plain, environ=environ)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "user"),
    [
        ("smtp://mail.example.com", "mail.example.com", 587, False, None),
        ("smtp://me@mail.example.com:25", "mail.example.com", 25, False, "me"),
        ("smtps://mail.example.com/", "mail.example.com", 465, True, None),
        ("SMTPS://me@mail.example.com", "mail.example.com", 465, True, "me"),
        ("smtp://me%40example.com@mail", "mail", 587, False, "me@example.com"),
        ("smtp://me@example.com@mail", "mail", 587, False, "me@example.com"),
        ("smtp://[::1]:2525", "::1", 2525, False, None),
    ],
)
def test_a_url_gives_host_port_and_encryption(
    url: str, host: str, port: int, tls: bool, user: str | None
) -> None:
    found = settings(url)
    assert (found.host, found.port, found.tls, found.user) == (host, port, tls, user)
    assert found.password == (SECRET if user else "")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.example.com",
        "http://mail.example.com",
        "smtp://",
        "smtp://:25",
        "smtp://@mail",
        "smtp://mail:port",
        "smtp://mail:0",
        "smtp://mail:65536",
        "smtp://mail:",
        "smtp://mail/path",
        "smtp://mail?x=y",
        "smtp://[::1",
        "smtp://mail..example.com",
        f"smtp://{'a' * 64}",
        "smtp://ma il",
        "smtp://mail\r\nRSET",
        "smtp://us%0d%0aer@mail",
        "smtp://user\x1b@mail",
    ],
)
def test_a_url_that_cannot_work_is_refused_before_the_run(url: str) -> None:
    with pytest.raises(UsageError, match="--smtp"):
        settings(url)


@pytest.mark.parametrize(
    "url",
    [
        "smtp://me:hunter2@mail",
        "smtps://me:hun/ter2@mail:465",
        "smtp://me:hun@ter2@mail",
        "smtp://me:hun#ter2?@mail",
        "smtp://:hunter2@mail",
        "smtp://me:@mail",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="BULKUP_SMTP_PASSWORD") as refused:
        settings(url)
    assert "hun" not in str(refused.value)
    assert "ter2" not in str(refused.value)


def test_a_url_that_may_hold_a_password_is_never_repeated() -> None:
    for url in ("smtp://me:hunter2", "smtp:me:hunter2@mail", "hunter2"):
        with pytest.raises(UsageError) as refused:
            settings(url)
        assert "hunter2" not in str(refused.value)


def test_a_user_needs_a_password_from_the_environment() -> None:
    for environ in ({}, {"BULKUP_SMTP_PASSWORD": ""}):
        with pytest.raises(UsageError, match="set BULKUP_SMTP_PASSWORD in the environment"):
            settings("smtp://me@mail", environ=environ)
    for password in ("pässword", "new\nline"):
        with pytest.raises(UsageError, match="printable ASCII") as refused:
            settings("smtp://me@mail", environ={"BULKUP_SMTP_PASSWORD": password})
        assert password not in str(refused.value)


def test_the_password_is_not_shown_with_the_settings() -> None:
    assert SECRET not in repr(settings("smtp://me@mail"))


def test_no_recipient_means_no_mail() -> None:
    assert mail_settings([], None, None, environ={}) is None
    assert mail_settings([" "], FROM, "smtp://mail", environ={}) is None


def test_a_recipient_alone_is_not_enough() -> None:
    with pytest.raises(UsageError, match="--email-from"):
        mail_settings(TO, None, "smtp://mail", environ={})
    with pytest.raises(UsageError, match="--smtp URL"):
        mail_settings(TO, FROM, None, environ={})


def test_tls_and_plain_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="contradicts"):
        settings("smtps://mail", plain=True)


def test_several_recipients_are_each_mailed_once() -> None:
    found = mail_settings(["a@x.com, b@x.com", "a@x.com"], FROM, "smtp://mail", environ={})
    assert found is not None
    assert found.to == ("a@x.com", "b@x.com")


@pytest.mark.parametrize(
    "address",
    [
        "a",
        "a@",
        "@b",
        "a b@c",
        "a@b@c",
        "a@b\r\nBcc: x@y",
        "<a@b>",
        "Name <a@b>",
        '"x y"@b',
        "a@b(c)",
        "a..b@c",
        "é@b.c",
        "a@\x1b[2J",
        "a@-b",
        "a@[127.0.0.1]",
    ],
)
def test_anything_but_a_plain_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="--email-from") as refused:
        mail_settings(TO, address, "smtp://mail", environ={})
    assert "\x1b" not in str(refused.value)


@given(st.text(alphabet="ab.-_+'!#@,; <>()[]\"\\\r\n\té", max_size=12))
def test_an_accepted_address_stays_one_header(text: str) -> None:
    try:
        found = mail_settings(TO, text, "smtp://mail", environ={})
    except UsageError:
        return
    assert found is not None
    message = EmailMessage()
    message["From"] = found.sender
    assert message["From"].addresses[0].addr_spec == found.sender
    assert len(message.as_bytes().splitlines()) == 2

from __future__ import annotations

import pytest

from clap_server.audio.source import SourceError
from clap_server.audio.url import check_url, is_redacted, redact_text, redact_url, restore_url


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://camera/stream",
        "RTSPS://user:p%40ss@192.168.1.5:322/h264?channel=1",
        "http://icecast.local:8000/live.mp3",
        "https://[fd00::1]:8443/index.m3u8?token=abc",
    ],
)
def test_stream_addresses_are_accepted(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "camera/stream",
        "/etc/passwd",
        "file:///etc/passwd",
        "pipe:0",
        "concat:/etc/passwd|/etc/hosts",
        "concat://x",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "data:audio/wav;base64,AAAA",
        "lavfi:sine",
        "lavfi://sine",
        "tcp://host:1",
        "rtp://host:1",
        "crypto:http://host/",
        "rtsp:/host",
        "rtsp://",
        "rtsp://:554/x",
        "rtsp://user:secret@/x",
        "rtsp://host:99999/x",
        "rtsp://host:0/x",
        "rtsp://user:sec/ret@host/x",
        "http://[::1/x",
        "http://host/a b",
        "http://host/\nx",
        "http://ho\x00st/",
        " http://host/",
        "http://host/" + "x" * 2048,
    ],
)
def test_everything_else_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(SourceError) as caught:
        check_url(url)
    assert caught.value.code == "unsupported_url"
    assert "secret" not in caught.value.reason
    assert "sec/ret" not in caught.value.reason


REDACTED = [
    ("rtsp://host/x", "rtsp://host/x"),
    ("rtsp://user:pass@host/x", "rtsp://user:***@host/x"),
    ("rtsp://user:p@ss:w@host:554/x", "rtsp://user:***@host:554/x"),
    ("rtsp://user:@host/x", "rtsp://user:***@host/x"),
    ("https://s3cr3t@host/x", "https://***@host/x"),
    ("http://host/x?a=1&token=abc&b=2#top", "http://host/x?a=1&token=***&b=2#top"),
    ("http://host/x?Access_Token=abc", "http://host/x?Access_Token=***"),
    ("http://host/x?api-key=abc;pwd=def", "http://host/x?api-key=***;pwd=***"),
    ("rtsp://host/user=admin&password=abc&channel=1", "rtsp://host/user=admin&password=***&channel=1"),
    ("rtsp://host/user=admin_password=abc_channel=1", "rtsp://host/user=admin_password=***"),
    ("http://host/@alice/live?page=2", "http://host/@alice/live?page=2"),
]


@pytest.mark.parametrize(("url", "redacted"), REDACTED)
def test_secrets_are_redacted(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted
    assert redact_url(redacted) == redacted
    assert is_redacted(redacted) == ("***" in redacted)


@pytest.mark.parametrize(("url", "redacted"), REDACTED)
def test_a_redacted_address_sent_back_keeps_its_secret(url: str, redacted: str) -> None:
    assert restore_url(redacted, url) == url


def test_a_password_with_an_unescaped_slash_is_hidden_too() -> None:
    assert redact_url("rtsp://user:sec/ret@host/x") == "rtsp://user:***@host/x"
    assert redact_url("rtsp://user:se?c#ret@host") == "rtsp://user:***@host"


def test_text_that_is_no_address_loses_its_secrets_too() -> None:
    assert redact_url("host/x?token=abc") == "host/x?token=***"


def test_path_and_parameters_may_change_beside_a_kept_secret() -> None:
    old = "http://u:pw@host/a?token=abc&q=1"
    assert restore_url("http://u:***@host/b?token=***&q=2", old) == "http://u:pw@host/b?token=abc&q=2"
    assert restore_url("http://u:***@host/b?token=new", old) == "http://u:pw@host/b?token=new"
    assert restore_url("http://u:new@host/b?token=***", old) == "http://u:new@host/b?token=abc"


def test_a_new_address_replaces_the_old_one() -> None:
    assert restore_url("rtsp://other/x", "rtsp://u:pw@host/x") == "rtsp://other/x"
    assert restore_url("rtsp://u:new@other/x", None) == "rtsp://u:new@other/x"


@pytest.mark.parametrize(
    ("sent", "old"),
    [
        ("rtsp://u:***@evil/x", "rtsp://u:pw@host/x"),
        ("rtsp://u:***@host:81/x", "rtsp://u:pw@host/x"),
        ("http://u:***@host/x", "https://u:pw@host/x"),
        ("rtsp://other:***@host/x", "rtsp://u:pw@host/x"),
        ("rtsp://host/x?token=***", "rtsp://host/x?key=1"),
        ("rtsp://u:***@host/x", None),
        ("rtsp://u:***@host/x", "rtsp://host/x"),
    ],
)
def test_a_secret_is_never_sent_to_another_place(sent: str, old: str | None) -> None:
    with pytest.raises(SourceError, match="again") as caught:
        restore_url(sent, old)
    assert caught.value.code == "secret_needed"
    assert "pw" not in caught.value.reason


def test_addresses_inside_a_message_are_redacted() -> None:
    text = "Cannot open 'rtsp://u:pw@host/x?token=abc' nor http://a:b@c/d now"
    assert redact_text(text) == "Cannot open 'rtsp://u:***@host/x?token=***' nor http://a:***@c/d now"


def test_a_password_with_quotes_is_redacted_in_a_message() -> None:
    assert redact_text("Cannot open rtsp://u:it's\"x@host/y.") == "Cannot open rtsp://u:***@host/y."


@pytest.mark.parametrize("name", ["loginpas", "psw", "userpw", "credentials", "passphrase"])
def test_secrets_of_cameras_with_names_of_their_own_are_redacted(name: str) -> None:
    assert redact_url(f"http://host/s.cgi?{name}=abc&channel=1") == f"http://host/s.cgi?{name}=***&channel=1"

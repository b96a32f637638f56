from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clap_server.audio.source import SourceError
from clap_server.audio.url import check_url, play_url, redact_text, redact_url, restore_url


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
        "rtsp://admin:123#456@host/x",
        "rtsp://admin:2024/secret@host",
        "rtsp://admin:12?34@host",
        "rtsp://u:secret@pw/2@host",
        "rtsp://s3/cr3t@host/x",
        "http://host/@alice/live?page=2",
        "http://ho\u202est/",
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
    ("http://host/x?api-key=abc;pwd=def", "http://host/x?api-key=***"),
    ("http://host/x?a=1;pwd=a/b#c;d&b=2", "http://host/x?a=1;pwd=***&b=2"),
    ("rtsp://host/user=admin&password=abc&channel=1", "rtsp://host/user=admin&password=***&channel=1"),
    ("rtsp://host/user=admin_password=abc_channel=1", "rtsp://host/user=admin_password=***"),
]


@pytest.mark.parametrize(("url", "redacted"), REDACTED)
def test_secrets_are_redacted(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted
    assert redact_url(redacted) == redacted


@pytest.mark.parametrize(("url", "redacted"), REDACTED)
def test_a_redacted_address_sent_back_keeps_its_secret(url: str, redacted: str) -> None:
    assert restore_url(redacted, url) == url


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://user:sec/ret@host/x",
        "rtsp://user:se?c#ret@host",
        "rtsp://admin:123#456@host/x",
        "rtsp://admin:2024/secret@host",
        "rtsp://u:se@cr/et@host/x",
        "http://host/x?token=a@b&c=1",
    ],
)
def test_nothing_is_shown_of_an_address_that_may_be_a_password_anywhere(url: str) -> None:
    assert redact_url(url) == url[:7] + "***"
    with pytest.raises(SourceError, match="again"):
        restore_url(redact_url(url), url)


def test_hint_says_how_to_write_a_password() -> None:
    for url in ("rtsp://admin:123#456@host/x", "rtsp://admin:12?34@host", "rtsp://user:pa#ss@host/x"):
        with pytest.raises(SourceError, match="# as %23"):
            check_url(url)


# Two ends by which a password is recognised, whatever is between them or splits it.
LEFT, RIGHT = "Sesame", "Rosebud"
ODD = st.text(st.sampled_from("/?#@:;&=%[]\\'\"<>()*.,-_~!$+|`^{}0189aü玻\u202e"), max_size=6)
PATHS = st.sampled_from(["", "/", "/live", ":554/h264?channel=1", "/a@b", "?x=1#top", "/x?token=1&y=2"])
SCHEMES = st.sampled_from(["rtsp", "RTSPS", "http", "https"])


@settings(derandomize=True, max_examples=500, database=None)
@given(SCHEMES, ODD, st.tuples(ODD, ODD, ODD), PATHS)
def test_no_password_survives_redaction_or_is_taken_for_something_else(
    scheme: str, user: str, odd: tuple[str, str, str], path: str
) -> None:
    password = f"{odd[0]}{LEFT}{odd[1]}{RIGHT}{odd[2]}"
    url = f"{scheme}://{user}:{password}@camera.example{path}"
    told = [redact_url(url), redact_text(f"cannot open {url}: refused"), redact_text(f"({url})")]
    try:
        check_url(url)
    except SourceError as error:
        told.append(error.reason)
    else:
        assert urlsplit(url).hostname == "camera.example"
        assert restore_url(redact_url(url), url) == url
    for text in told:
        assert LEFT not in text
        assert RIGHT not in text


@settings(derandomize=True, max_examples=200, database=None)
@given(ODD, st.sampled_from(["token", "authbasic", "loginpas", "pwd", "x-api-key"]), st.sampled_from("?/&;#"))
def test_no_secret_parameter_survives_redaction(odd: str, name: str, before: str) -> None:
    secret = f"{LEFT}{odd.replace('&', '')}{RIGHT}"
    url = f"http://camera.example/live?a=1{before}{name}={secret}&b=2"
    for text in (redact_url(url), redact_text(f"cannot open {url}: refused")):
        assert LEFT not in text
        assert RIGHT not in text


@settings(derandomize=True, max_examples=200, database=None)
@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_any_password_can_be_written(user: str, password: str) -> None:
    url = f"rtsp://{quote(user, safe='')}:{quote(password, safe='')}@camera.example/live"
    check_url(url)
    assert unquote(urlsplit(url).password or "") == password
    assert restore_url(redact_url(url), url) == url


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.1.2:8080",
        "2852039166",
        "0xa9.0xfe.43518",
        "[fe80::1]",
        "[fe80::1%25eth0]:80",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "100.100.100.200",
    ],
)
def test_address_where_clouds_keep_their_secrets_is_refused(host: str) -> None:
    with pytest.raises(SourceError, match="link-local") as caught:
        check_url(f"http://user:pw@{host}/latest/meta-data")
    assert caught.value.code == "unsupported_url"


@pytest.mark.parametrize(
    "host", ["192.168.1.5", "10.0.0.1", "127.0.0.1", "[fd00::1]", "1", "169.example", "camera"]
)
def test_address_of_the_home_is_accepted(host: str) -> None:
    check_url(f"rtsp://{host}/live")


def test_scheme_is_made_small_and_nothing_else() -> None:
    assert play_url("HTTPS://User:PW@Host/PATH://x") == "https://User:PW@Host/PATH://x"


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


@pytest.mark.parametrize(
    "name",
    ["loginpas", "psw", "userpw", "credentials", "passphrase", "authbasic", "pwd2", "wpa_psk", "tokenId"],
)
def test_secrets_of_cameras_with_names_of_their_own_are_redacted(name: str) -> None:
    assert redact_url(f"http://host/s.cgi?{name}=abc&channel=1") == f"http://host/s.cgi?{name}=***&channel=1"


@pytest.mark.parametrize(
    "before",
    [
        "?pass%77ord=",
        "?pass%2577ord=",
        "?%70wd=",
        "?pwd%3D",
        "?pwd%3d",
        "?user=u&pass[]=",
        "?user=u&pass%5B%5D=",
        "?user%3Du%26password%3D",
        "?u=x,password=",
        "?u=x|password=",
        "?u=x!password=",
        "?u=x:password=",
        "?u=x%2Cpassword=",
        "?u=(pwd=",
        "/pw~pwd=",
        "?q=100%token=",
        "?a%41=1&%41token=",
        "?token:",
        "?token%3A",
        "?code=",
        "?accessCode=",
        "?access=",
        "?PIN=",
        "?pin1=",
        "?cred=",
        "?otp=",
        "?hmac=",
        "?tok=",
        "?wsse=",
        "?nonce=1&response=",
    ],
)
def test_secret_is_redacted_however_its_name_is_written(before: str) -> None:
    url = f"http://host/a{before}Sesame&channel=1"
    assert redact_url(url) == f"http://host/a{before}***&channel=1"
    assert restore_url(redact_url(url), url) == url
    assert "Sesame" not in redact_text(f"cannot open {url}: refused")


@pytest.mark.parametrize(
    "query", ["transcode=1", "codec=aac", "spin=2", "keyframe=1", "mapping=x", "access_mode=r", "time=10:20"]
)
def test_what_is_no_secret_is_shown(query: str) -> None:
    assert redact_url(f"http://host/a?{query}") == f"http://host/a?{query}"


def test_secrets_of_the_same_name_keep_their_places() -> None:
    old = "http://host/x?token=AAA&token=BBB"
    assert restore_url(redact_url(old), old) == old
    assert restore_url("http://host/x?token=new&token=***", old) == "http://host/x?token=new&token=BBB"
    assert (
        restore_url("http://host/x?token=***&q=1&token=new", old) == "http://host/x?token=AAA&q=1&token=new"
    )
    same = "http://host/x?token=AAA&token=AAA"
    assert restore_url("http://host/x?token=***", same) == "http://host/x?token=AAA"


@pytest.mark.parametrize("query", ["token=***", "token=***&token=***&token=***", "token=***&key=***"])
def test_secret_of_an_unknown_place_is_asked_for_again(query: str) -> None:
    with pytest.raises(SourceError, match="again"):
        restore_url(f"http://host/x?{query}", "http://host/x?token=AAA&token=BBB")


def test_long_text_is_redacted_soon() -> None:
    parts = ("a", "%41", "a%41", "%25", "%3D", "a=", "pw=", "pw=&", "key_", "%a")
    for text in (part * 100_000 for part in parts):
        assert redact_url(f"http://host/{text}&token=Sesame").endswith("&token=***")

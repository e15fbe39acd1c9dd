"""Where a base URL may lead: a key goes to no address of the own network, however it is written."""

from __future__ import annotations

import ipaddress
import socket

import pytest

import exai_files

pytestmark = pytest.mark.once

OWN = socket.gethostbyname(socket.gethostname())
NETWORKS = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 169.254.0.0/16 0.0.0.0/8 224.0.0.0/4 240.0.0.0/4"
TARGETS = [
    *(str(ipaddress.ip_network(network)[number]) for network in NETWORKS.split() for number in (1, 258, -2)),
    "169.254.169.254",
]


def spellings(address: str) -> list[str]:
    a, b, c, d = (int(part) for part in address.split("."))
    number = int(ipaddress.IPv4Address(address))
    full_width = address.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    return [
        address,
        f"{address}.",
        str(number),
        hex(number),
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"{a}.{b}.{c * 256 + d}",
        full_width,
        "".join(f"%{ord(letter):02x}" for letter in address),
        f"[::ffff:{address}]",
        f"[64:ff9b::{a:x}{b:02x}:{c:x}{d:02x}]",
        f"{address[:-1]}\t{address[-1:]}",
    ]


HOSTILE = [
    *(f"https://{host}/v1" for target in TARGETS for host in spellings(target)),
    *(f"https://{host}/v1" for host in ("[fe80::1]", "[fd00:ec2::254]", "[fc00::1]", "[::]", "[ff02::1]")),
    *(f"https://api.moonshot.cn{trick}10.0.0.1/v1" for trick in ("@", "%40", "\\@", ":443@", "#@", "?@")),
    *("http://api.moonshot.cn/v1", "http://10.0.0.1/v1", "file:///etc/passwd", "https:///v1", "gopher://10.0.0.1/"),
]


def client(url: str, **more: object) -> exai_files.Client:
    moonshot = {"base_url": url, "api_key": "sk-canary", **more}
    settings = {"retry": {"max_attempts": 1}}
    return exai_files.Client(registry=":memory:", environment={}, platforms={"moonshot": moonshot}, settings=settings)


def test_no_spelling_of_an_address_that_is_not_public_gets_through():
    assert len(HOSTILE) >= 300
    for url in HOSTILE:
        with pytest.raises(exai_files.ConfigError, match="base_url"):
            client(url).close()
            pytest.fail(f"{url!r} was accepted")


def test_no_login_server_is_there_either():
    for url in HOSTILE:
        kimi = {"base_url": "https://api.kimi.com/coding/v1", "oauth_token_url": url}
        with pytest.raises(exai_files.ConfigError, match="oauth_token_url"):
            exai_files.Client(registry=":memory:", environment={}, platforms={"kimi-code": kimi}).close()
            pytest.fail(f"{url!r} was accepted")


@pytest.fixture
def listener():
    with socket.create_server((OWN, 0)) as listener:
        listener.setblocking(False)
        yield listener


def test_a_name_that_leads_into_the_own_network_is_not_followed(listener):
    url = f"https://{socket.gethostname()}:{listener.getsockname()[1]}/v1"
    with client(url) as files, pytest.raises(exai_files.Error, match=f"leads to {OWN}") as refused:
        files.upload(b"hello", name="a.txt", to="moonshot")
    assert "allow_private_addresses" in str(refused.value)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_what_is_allowed_is_reached_but_never_where_clouds_keep_credentials(listener):
    url = f"https://{socket.gethostname()}:{listener.getsockname()[1]}/v1"
    listener.settimeout(10)
    with client(url, allow_private_addresses=True) as files:
        with pytest.raises(exai_files.Error):
            files.upload(b"hello", name="a.txt", to="moonshot", timeout=1)
        listener.accept()[0].close()
    with pytest.raises(exai_files.ConfigError, match="no public address"):
        client("https://169.254.169.254/v1", allow_private_addresses=True)
    client("https://10.0.0.1/v1", allow_private_addresses=True).close()


def test_this_machine_may_be_named(sim):
    port = sim.moonshot.base_url.rsplit(":", 1)[1]
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        client(f"http://{host}:{port}").close()

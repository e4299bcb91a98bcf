from __future__ import annotations

import pytest

from bzzz.hive.git_url import read_git_url


@pytest.mark.parametrize(
    ("url", "key", "api"),
    [
        ("https://github.com/acme/shop.git", "acme/shop", "https://api.github.com"),
        ("https://www.github.com/acme/shop", "acme/shop", "https://api.github.com"),
        ("git@github.com:acme/shop.git", "acme/shop", "https://api.github.com"),
        ("ssh://git@github.com:22/acme/shop.git", "acme/shop", "https://api.github.com"),
        ("https://git.acme.test/acme/shop.git", "acme/shop", "https://git.acme.test/api/v3"),
        ("http://127.0.0.1:8740/forge/acme/shop.git", "acme/shop", "http://127.0.0.1:8740/forge/api/v3"),
        ("http://[::1]:8740/acme/shop", "acme/shop", "http://[::1]:8740/api/v3"),
        ("git@git.acme.test:acme/shop.git", "acme/shop", "https://git.acme.test/api/v3"),
    ],
)
def test_the_rest_root_is_derived_from_the_git_address(url: str, key: str, api: str) -> None:
    address = read_git_url(url)
    assert f"{address.owner}/{address.repository}" == key
    assert address.api_url == api


def test_credentials_in_an_address_are_taken_out_and_said() -> None:
    address = read_git_url("https://bot:s3cret@git.acme.test/acme/shop.git")
    assert address.url == "https://git.acme.test/acme/shop.git"
    assert address.had_credentials
    assert "s3cret" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop",
        "https://github.com/shop",
        "https://github.com/acme/../..",
        "https://github.com/acme/sh op",
        "file:///etc/passwd/x/y",
        "--upload-pack=touch /tmp/x",
        "ext::sh -c id acme/shop",
        "https://github.com/acme/shop?x=1",
        "https://github.com:port/acme/shop",
        "https://github.com/acme/" + "x" * 600,
        "https://u:s3cret@h/\x00/a",
    ],
)
def test_anything_else_is_refused_without_repeating_credentials(url: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        read_git_url(url)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)

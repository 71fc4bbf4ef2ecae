"""The edge's configuration and the links it accepts: data in, text out."""

import base64
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from bench import media_rows
from system.kernel import cdn_links
from system.platform import blueprint
from system.platform.addresses import Plan
from system.platform.paths import Paths
from system.platform.servers import SERVERS, nginx
from system.platform.servers.base import Context
from system.stores.s3 import signing as s3_signing

SECRET = "a secret of the parrots"
ONE = nginx.Edge("127.21.8.1:8080", "127.21.50.1:9000", Path("/parrots"), SECRET, "127.21.105.1:8000", 4096, 40)
TEXT = nginx.conf(ONE)


def media_block() -> str:
    return TEXT[TEXT.index('location ~ "^/['):]


def test_the_signature_is_checked_before_the_cache_lookup():
    """`if` with `return` works in the rewrite phase, the cache in the content phase.

    The key is the path alone.
    """
    block = media_block()

    assert block.index("return 403") < block.index("proxy_cache media")
    assert "proxy_cache_key $uri;" in block
    assert re.search(r"secure_link \$arg_s,\$arg_e;", block)


def test_a_links_signature_is_the_one_nginx_computes():
    """MD5 over expiry, path, a space and the key, in URL-safe base64 without padding."""
    url = cdn_links.link("http://e", "/b-media/media/7/8", "k", 1_800_000_000)
    digest = hashlib.md5(b"1800000000/b-media/media/7/8 k").digest()

    assert url == f"http://e/b-media/media/7/8?e=1800000000&s={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
    assert f'secure_link_md5 "$secure_link_expires$uri {cdn_links.link_key(SECRET)}";' in TEXT


def test_the_keys_of_the_edge_differ_and_none_is_the_secret():
    """An observer of a purge learns nothing about links or storage."""
    keys = {cdn_links.link_key(SECRET), cdn_links.purge_key(SECRET), cdn_links.storage_password(SECRET), SECRET}

    assert len(keys) == 4
    assert SECRET not in TEXT + nginx.script(ONE)


def test_nothing_of_the_clients_request_reaches_storage_and_nothing_of_storage_the_client():
    """No header, no body, no query but the edge's own; S3's headers and Vary are removed."""
    block = media_block()

    assert "proxy_pass_request_headers off;" in block and "proxy_pass_request_body off;" in block
    assert "proxy_pass http://storage$uri?$storage_query;" in block
    assert "proxy_hide_header X-Amz-Request-Id;" in block
    assert "proxy_ignore_headers Vary" in block


def test_a_purge_requires_the_method_and_the_labs_key():
    """From loopback only."""
    block = TEXT[TEXT.index("^/purge"):TEXT.index('location ~ "^/[')]

    assert "!= PURGE) { return 405; }" in block
    assert f'$http_x_edge_key != "{cdn_links.purge_key(SECRET)}") {{ return 403; }}' in block
    assert block.index("allow 127.0.0.0/8;") < block.index("deny all;") < block.index("proxy_cache_purge media $object;")


@pytest.mark.parametrize(("path", "served"), [
    ("/tweetlab-media/media/7/8", True), ("/t1a2b-media/media/1/2", True), ("/tweetlab-media/sealed/7/8", False),
    ("/tweetlab-media/media/7/8/", False), ("/tweetlab-media/media/7/x", False), ("/media/7/8", False),
    ("/.minio.sys/media/7/8", False), ("/other/media/7/8", False), ("/Tweetlab-media/media/7/8", False),
])
def test_only_paths_of_media_are_served(path, served):
    """A media bucket, an owner, a number: digits only, so nothing needs quoting in a signature."""
    assert bool(re.fullmatch(f"/{cdn_links.OBJECTS}", path)) is served


def test_an_objects_key_and_bucket_match_its_link():
    """Key and bucket are defined in one place."""
    assert cdn_links.object_key("7_42") == "media/7/42"
    assert cdn_links.bucket("T1") == "t1-media"


def context(env):
    small = blueprint.load("small")
    node = next(node for node in small.nodes if node.kind == "nginx")
    return Context(node, small, Plan(21), Paths(Path("/parrots"), 21), env)


def test_every_lab_has_an_edge_which_drops_root():
    """`cdn-1` on octet 8, configured with storage and the counting media service."""
    ctx = context({"TWEETLAB_EDGE_SECRET": SECRET})
    launch = SERVERS["nginx"].launch(ctx)
    text = next(text for path, text in launch.files.items() if path.name == "nginx.conf")

    assert (ctx.node.name, ctx.address, launch.drops_root) == ("cdn-1", "127.21.8.1:8080", True)
    assert "server 127.21.50.1:9000 " in text and "syslog:server=127.21.105.1:8000" in text
    assert cdn_links.link_key(SECRET) in text


def test_an_edge_without_a_secret_refuses_every_request():
    """Its key cannot be guessed: a new one at each start."""
    texts = {"".join(SERVERS["nginx"].launch(context({})).files.values()) for _ in range(2)}

    assert len(texts) == 2
    assert not any(cdn_links.link_key("") in text for text in texts)


def test_an_upload_url_names_every_header_that_it_binds():
    """AWS' query signature: sorted, quoted, without the secret; a further header changes the signature."""
    signer = s3_signing.Signer("127.0.0.1:9000", "who", "what", "us-east-1")
    bound = s3_signing.presigned(signer, "PUT", "/b/k é", 60, {"content-type": "image/png", "content-length": "8"})
    loose = s3_signing.presigned(signer, "PUT", "/b/k é", 60, {})

    assert "X-Amz-SignedHeaders=content-length%3Bcontent-type%3Bhost&" in bound and "X-Amz-SignedHeaders=host&" in loose
    assert bound.startswith("http://127.0.0.1:9000/b/k%20%C3%A9?") and "what" not in bound
    assert bound.rpartition("=")[2] != loose.rpartition("=")[2]


def test_ches_approximation_matches_a_simulated_lru():
    """Zipf 0.8, 1,000 objects, capacity 100: 40,000 lookups of an exact LRU are within 2 % of it."""
    shares = media_rows.zipf(1_000, 0.8)
    cache, hits = {}, 0
    drawn = np.random.default_rng(3).choice(1_000, 45_000, p=shares).tolist()
    for at, number in enumerate(drawn):
        hits += at >= 5_000 and number in cache
        cache.pop(number, None)
        cache[number] = True
        if len(cache) > 100:
            del cache[next(iter(cache))]

    assert hits / 40_000 == pytest.approx(media_rows.che(shares, 100), rel=0.02)

"""A cluster with TLS, whose certificates this test makes: with one a client works, without one it is refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from padim_zoo.bench.executors.cluster import connect
from padim_zoo.core.errors import InputError
from tests.cluster.conftest import Cluster, start_cluster


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that is its own authority, and its key in ``key.pem`` beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make certificates")
    folder = tmp_path_factory.mktemp("tls")
    subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    key = ("-newkey", "rsa:2048", "-nodes", "-keyout", folder / "key.pem")
    openssl("req", "-x509", *key, "-out", folder / "cert.pem", "-days", "2", *subject)
    return folder / "cert.pem"


@pytest.fixture(scope="module")
def cluster(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    key = certificate.with_name("key.pem")
    options = [f"--tls-ca-file={certificate}", f"--tls-cert={certificate}", f"--tls-key={key}"]
    cluster = start_cluster(tmp_path_factory.mktemp("cluster"), *options, protocol="tls")
    cluster.add_worker()
    yield cluster
    cluster.end()


def test_a_client_with_a_certificate_is_let_in(cluster: Cluster, certificate: Path) -> None:
    key = str(certificate.with_name("key.pem"))
    names = {"client.cert": str(certificate), "client.key": key, "ca-file": str(certificate)}
    notes: list[str] = []
    with (
        dask.config.set({f"distributed.comm.tls.{name}": value for name, value in names.items()}),
        connect(f"file:{cluster.file}", insecure=False, jobs=1, note=notes.append) as connected,
    ):
        assert connected.address.startswith("tls://127.0.0.1:")
        connected.client.wait_for_workers(1, timeout=60)
        assert connected.client.submit(sum, [1, 2], pure=False).result() == 3


def test_a_client_without_one_is_refused(cluster: Cluster) -> None:
    with (
        pytest.raises(InputError, match=r"cannot connect .*tls://.*distributed\.comm\.tls"),
        connect(f"file:{cluster.file}", insecure=False, jobs=1, note=print),
    ):
        pass

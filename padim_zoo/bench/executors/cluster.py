"""A connection to a Dask cluster, whose address is given: ours to look at, not to administer."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

from padim_zoo.bench.executors.versions import describe_versions, difference
from padim_zoo.bench.executors.worker_process import safe_path
from padim_zoo.core.cpu import usable_processors
from padim_zoo.core.errors import InputError, needs_extra
from padim_zoo.core.fields import read_json

CONNECT_SECONDS = 15.0
_ANSWER_SECONDS = 3.0
_GREETING_SECONDS = 8.0
_GOODBYE_SECONDS = 2.0
_LOOK_SECONDS = 2.0
_DASHBOARD_SECONDS = 1.0

Note = Callable[[str], object]


class ClusterLostError(RuntimeError):
    """The scheduler of a cluster is gone in the middle of the work, or worker after worker."""


class Cluster:
    """A Dask cluster.

    Parameters
    ----------
    client : distributed.Client
    address : str
        Of its scheduler.
    """

    def __init__(self, client: Any, address: str) -> None:
        self.client = client
        self.address = address
        self._threads: dict[str, int] = {}
        self._looked = -_LOOK_SECONDS

    def threads_by_worker(self) -> dict[str, int]:
        """The workers that there are now, by address; looked up every few seconds.

        Raises
        ------
        ClusterLostError
            If the scheduler does not answer.
        """
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            try:
                self._threads = dict(self.client.nthreads())
            except (OSError, RuntimeError, asyncio.TimeoutError, AttributeError) as error:  # last: it closed itself
                raise self.lost() from error
            self._looked = time.monotonic()
        return self._threads

    def workers_by_host(self) -> dict[str, int]:
        """How many workers share a machine."""
        from distributed.comm.addressing import get_address_host

        return dict(Counter(map(get_address_host, self.threads_by_worker())))

    def follow(self, future: Any, tell: Callable[[Any], object]) -> None:
        """Tell what a future becomes, its result or an exception, in the thread of the client.

        What comes together is fetched together, in one question to the scheduler. A result that was lost with its
        worker is made again, and holds up no other.
        """
        self.client.loop.add_callback(_tell_outcome, future, tell)

    def why_dropped(self, future: Any, error: Exception) -> str | None:
        """Why a future has neither a result nor an error of its own; None if the scheduler is gone.

        Somebody may have restarted the cluster or dropped the task, or its result cannot be fetched. Where Dask does
        not name the loss of its scheduler, it is asked.
        """
        reason = str(getattr(error, "reason", f"{type(error).__name__}: {error}"))
        if reason == "scheduler-connection-lost":
            return None
        self._looked = -_LOOK_SECONDS
        try:
            self.threads_by_worker()
        except ClusterLostError:
            return None
        return reason

    def check_workers(self, note: Note) -> None:
        """Compare versions with the workers that are there, and say what is to be said of them.

        Raises
        ------
        InputError
            If a worker runs other versions, or no padim-zoo.
        """
        threads = self.threads_by_worker()
        if not threads:
            note(f"the cluster {self.address} has no worker yet: waiting for one")
            return
        for worker, versions in self.client.run(describe_versions, on_error="return").items():
            if isinstance(versions, Exception):
                reason = " ".join(f"{type(versions).__name__}: {versions}".split())
                raise InputError(f"the worker {worker} cannot run padim-zoo ({reason}): install it there")
            differing = difference(describe_versions(), versions)
            if differing is not None:
                raise InputError(f"the worker {worker} differs in versions, {differing}: install the same ones")
        several = sum(count > 1 for count in threads.values())
        if several:
            note(
                f"{several} of {len(threads)} workers have more than one thread, and only one does runs: start them "
                "with dask worker --nworkers N --nthreads 1"
            )

    def lost(self) -> ClusterLostError:
        """The error of a scheduler that is gone."""
        return ClusterLostError(f"the scheduler of {self.address} is gone: run the command again for the rest")


async def _tell_outcome(future: Any, tell: Callable[[Any], object]) -> None:
    try:
        outcome = await future
    except Exception as error:
        outcome = error
    tell(outcome)


@contextmanager
def connect(address: str, *, insecure: bool, jobs: int, note: Note) -> Iterator[Cluster]:
    """Connect to a cluster, or start one on this machine and end it.

    Parameters
    ----------
    address : str
        ``local``, ``tcp://…``, ``tls://…`` or ``file:scheduler.json``.
    insecure : bool
        Allow ``tcp://`` beyond this machine.
    jobs : int
        Workers of a local cluster; 1 stands for as many as there are processors.
    note : callable
        Is told what there is to say.

    Raises
    ------
    InputError
        If nothing answers, or what is sent would be readable for others.
    """
    with needs_extra("dask", "--cluster"):
        from distributed import Client, LocalCluster
    start: Any = LocalCluster
    scheduler = address
    if address != "local":
        if jobs > 1:
            raise InputError(f"--jobs {jobs} belongs to --cluster local: the workers of {address} are its own")
        scheduler = _address_in(Path(address.removeprefix("file:"))) if address.startswith("file:") else address
        _refuse_readable(scheduler, insecure)
        _refuse_silent(scheduler)
    _silence()
    _allow_many_files()
    local = None
    try:
        if address == "local":
            with safe_path():
                local = start(
                    n_workers=jobs if jobs > 1 else usable_processors(),
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
        client = _client(Client, scheduler, local)
        try:
            cluster = Cluster(client, scheduler)
            cluster.check_workers(note)
            if link := _dashboard_of(client):
                note(f"dashboard of the cluster: {link}")
            yield cluster
        finally:
            with suppress(Exception):  # of a scheduler that is gone
                client.close(timeout=_GOODBYE_SECONDS)
    finally:
        if local is not None:
            with suppress(Exception):  # workers that are in the middle of a run end with this process
                local.close(timeout=_GOODBYE_SECONDS)


def _dashboard_of(client: Any) -> str | None:
    """The link to the dashboard, if it is there: Dask names one without bokeh too, and behind a firewall."""
    with suppress(Exception):
        link = str(client.dashboard_link)
        if link.startswith("http"):
            with build_opener(ProxyHandler({})).open(link, timeout=_DASHBOARD_SECONDS) as page:
                return None if b"Dask needs bokeh" in page.read(1000) else link
    return None


def _client(create: Any, address: str, local: Any) -> Any:
    try:
        if local is None:
            with ThreadPoolExecutor(1) as pool:  # a notebook has a running loop in this thread
                pool.submit(lambda: asyncio.run(_await_greeting(address))).result()
        return create(local or address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(f"{error.__cause__ or error}".split()) or type(error).__name__
        reason = re.sub(r"in <[^>]* object at 0x\w+>: ", "", reason)
        tls = "; certificates are read from Dask's configuration, distributed.comm.tls" if "tls:" in address else ""
        raise InputError(
            f"cannot connect to the cluster {address} ({reason}): expected the address of a dask scheduler{tls}"
        ) from error


async def _await_greeting(address: str) -> None:
    """A client waits for a greeting without end, and hangs as it ends if it has no certificate: find out before."""
    from distributed import security
    from distributed.comm import core

    certificates: Any = security.Security
    greet: Any = core.connect
    options = certificates().get_connection_args("client")
    if address.startswith("tls:") and options["ssl_context"] is None:
        raise ValueError("no certificate is named here")
    try:
        connection = await asyncio.wait_for(greet(address, _GREETING_SECONDS, **options), _GREETING_SECONDS)
    except asyncio.TimeoutError:
        raise ValueError(
            f"it accepts, but no scheduler spoke, or a busy one, within {_GREETING_SECONDS:.0f} s"
        ) from None
    except MemoryError:  # the first bytes of SSH, read as a length
        raise ValueError("it speaks another protocol") from None
    connection.abort()


def _address_in(path: Path) -> str:
    """The address in the file that ``dask scheduler --scheduler-file`` writes."""
    try:
        content = read_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the scheduler file {path} ({error}): is dask scheduler running?") from None
    address = content.get("address") if isinstance(content, dict) else None
    if not isinstance(address, str):
        raise InputError(f"{path} names no address: expected the file that dask scheduler --scheduler-file writes")
    return address


def _refuse_readable(address: str, insecure: bool) -> None:
    from distributed.comm.addressing import get_address_host_port

    try:
        host, _ = get_address_host_port(address)
    except (ValueError, KeyError):
        raise InputError(f"{address!r} is not an address: expected tcp://HOST:PORT or tls://HOST:PORT") from None
    if address.startswith("tls://") or insecure or _is_loopback(host):
        return
    raise InputError(
        f"{address} is not encrypted, and whoever reaches it can run code: use tls:// (dask scheduler and dask worker "
        "--tls-ca-file …, and the same in Dask's configuration here), or --insecure in a network that you trust"
    )


def _refuse_silent(address: str) -> None:
    """Dask tries an address where nothing listens again and again: one short attempt tells."""
    from distributed.comm.addressing import get_address_host_port

    try:
        socket.create_connection(get_address_host_port(address), timeout=_ANSWER_SECONDS).close()
    except OSError:
        raise InputError(f"nothing answers at {address}: is dask scheduler running there?") from None


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _silence() -> None:
    """What distributed has to tell is told by us, in one line."""
    for name in list(logging.root.manager.loggerDict):
        if name == "distributed" or name.startswith("distributed."):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _allow_many_files() -> None:
    """Each run in flight is a lock on a file: as many as the system allows."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

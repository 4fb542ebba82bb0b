"""The contestants, and how each is configured.

A contestant is named FAMILY-MPM (``ours-event``, ``mod_echo-prefork``) or just by its family if it is no httpd
module (``asyncio``). Its opening function raises UnavailableError when it cannot be had here;
the runner shows the reason.

``ours`` and ``old`` get the same handler files and the same directives. Both run in ``main_interpreter``, the choice of
``mod_python serve``; everything else is left at its default, automatic reloading included.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks.load import HELLO
from benchmarks.server import HttpdConfig, Server, Sizes, httpd, program
from benchmarks.tools import APPS, Tools

MPMS = ("event", "worker", "prefork")

OURS = "ours"
OLD = "old"
#: End of the family names of pages that are flushed as they are written, which is what write() does by default: two
#: segments and chunked coding. The others queue the page and return, which is what ap_rputs() does in C.
FLUSHED = "_flushed"
#: End of the family names of pages whose handlers wait 5 ms before they answer.
WAITING = "_waiting"

#: A coroutine handler of ours, and a protocol on uvloop without streams.
ASYNC = "async"
PROTOCOL = "uvloop_protocol"
#: The size of the server with the coroutine handler.
ASYNC_SIZES = Sizes(threads=25)

#: Opens a contestant's server: tools and sizes in, a running server while the context lasts.
Opener = Callable[[Tools, Sizes], AbstractContextManager[Server]]


@dataclass(frozen=True)
class Peer:
    """A contestant.

    Attributes:
        name: such as ``ours-event``
        family: such as ``ours``
        mpm: the MPM, or None if it is no httpd
        open: starts its server
        baseline: the name of the contestant that ratios in the tables refer to
        path: path of its hello page, HTTP only
    """

    name: str
    family: str
    mpm: str | None
    open: Opener
    baseline: str
    path: str = "/app/hello"


# ---------------------------------------------------------------- the two generations of mod_python


def _ours(tools: Tools) -> tuple[tuple[tuple[str, Path], ...], dict[str, str]]:
    return (("python_module", tools.our_module),), {}


def _old(tools: Tools) -> tuple[tuple[tuple[str, Path], ...], dict[str, str]]:
    tree = tools.old_mod_python
    module = (("python_module", tree / "usr/lib/apache2/modules/mod_python.so"),)
    return module, {"PYTHONPATH": str(tree / "usr/lib/python3/dist-packages")}


_GENERATIONS = {OURS: _ours, OLD: _old}


def generation(family: str) -> Callable[[Tools], tuple[tuple[tuple[str, Path], ...], dict[str, str]]]:
    """What finds the module, and the environment it needs, of one generation of mod_python."""
    return _GENERATIONS[family]


def _python_echo(family: str, mpm: str) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        modules, environment = _GENERATIONS[family](tools)
        config = HttpdConfig(
            mpm=mpm,
            modules=modules,
            directives="PythonPath \"sys.path + ['@ROOT@']\"\n"
            "PythonInterpreter main_interpreter\n"
            "PythonConnectionHandler echo",
            files={"echo.py": _app("echo.py")},
            environment=environment,
        )
        return httpd(tools, f"{family}-{mpm}", config, sizes)

    return open_


def _python_hello(family: str, mpm: str) -> Opener:
    generation, _, variant = family.partition("_")
    handler = f"hello::{variant}" if variant else "hello"

    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        modules, environment = _GENERATIONS[generation](tools)
        config = HttpdConfig(
            mpm=mpm,
            modules=modules,
            directives='PythonInterpreter main_interpreter\n<Directory "@ROOT@/htdocs/app">\n'
            f"    SetHandler mod_python\n    PythonHandler {handler}\n</Directory>",
            files={"htdocs/app/hello.py": _app("hello.py"), **_PAGE},
            environment=environment,
        )
        return httpd(tools, f"{family}-{mpm}", config, sizes)

    return open_


def _publisher(family: str, mpm: str) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        modules, environment = _GENERATIONS[family](tools)
        config = HttpdConfig(
            mpm=mpm,
            # Where no AddHandler names it, the publisher of the old mod_python crashes.
            modules=(("mime_module", tools.httpd_module("mod_mime")), *modules),
            directives="TypesConfig /dev/null\nAddHandler mod_python .py\n"
            'PythonInterpreter main_interpreter\n<Directory "@ROOT@/htdocs/app">\n'
            "    SetHandler mod_python\n    PythonHandler mod_python.publisher\n</Directory>",
            files={"htdocs/app/pages.py": _app("pages.py")},
            environment=environment,
        )
        return httpd(tools, f"{family}-{mpm}", config, sizes)

    return open_


def _python_psp(family: str, mpm: str) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        modules, environment = _GENERATIONS[family](tools)
        config = HttpdConfig(
            mpm=mpm,
            modules=modules,
            directives='PythonInterpreter main_interpreter\n<Directory "@ROOT@/htdocs/app">\n'
            "    SetHandler mod_python\n    PythonHandler mod_python.psp\n</Directory>",
            files={"htdocs/app/hello.psp": _app("hello.psp")},
            environment=environment,
        )
        return httpd(tools, f"{family}-psp-{mpm}", config, sizes)

    return open_


# ---------------------------------------------------------------- httpd's modules

#: The page as a file: what ``static`` serves. The others have it too, so that all look through the same directory.
_PAGE = {"htdocs/app/hello": HELLO}


def _app(name: str) -> str:
    return (APPS / name).read_text(encoding="utf-8")


def _mod_echo(mpm: str) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        config = HttpdConfig(mpm, (("echo_module", tools.httpd_module("mod_echo")),), "ProtocolEcho On")
        return httpd(tools, f"mod_echo-{mpm}", config, sizes)

    return open_


def _c_handler(family: str, mpm: str) -> Opener:
    handler = "bench-hello-flushed" if family.endswith(FLUSHED) else "bench-hello"

    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        config = HttpdConfig(
            mpm,
            (("bench_hello_module", tools.c_handler),),
            f'<Directory "@ROOT@/htdocs/app">\n    SetHandler {handler}\n</Directory>',
            dict(_PAGE),
        )
        return httpd(tools, f"{family}-{mpm}", config, sizes)

    return open_


def _static(mpm: str) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        directives = '<Directory "@ROOT@/htdocs/app">\n    ForceType text/plain\n</Directory>'
        return httpd(tools, f"static-{mpm}", HttpdConfig(mpm, (), directives, dict(_PAGE)), sizes)

    return open_


def _mod_wsgi(mpm: str, app: str = "hello.wsgi") -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        config = HttpdConfig(
            mpm,
            (("wsgi_module", tools.mod_wsgi),),
            # Embedded mode: like the others in httpd's own children; a daemon process would add a second socket hop.
            'WSGIScriptAlias /app/hello "@ROOT@/hello.wsgi"\nWSGIApplicationGroup %{GLOBAL}',
            {"hello.wsgi": _app(app), **_PAGE},
        )
        return httpd(tools, f"mod_wsgi-{mpm}", config, sizes)

    return open_


def _python_wsgi(family: str, mpm: str) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        modules, environment = _GENERATIONS[family](tools)
        config = HttpdConfig(
            mpm=mpm,
            modules=modules,
            directives="PythonInterpreter main_interpreter\n<Location /app/hello>\n"
            "    SetHandler mod_python\n    PythonHandler mod_python.wsgi\n"
            "    PythonPath \"sys.path + ['@ROOT@']\"\n"
            "    PythonOption mod_python.wsgi.application hello_wsgi\n</Location>",
            files={"hello_wsgi.py": _app("hello.wsgi"), **_PAGE},
            environment=environment,
        )
        return httpd(tools, f"{family}-{mpm}", config, sizes)

    return open_


def _mod_lua(mpm: str) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        config = HttpdConfig(
            mpm,
            (("lua_module", tools.httpd_module("mod_lua")),),
            # A Lua state per thread that compiles the script once: its fastest settings.
            '<Directory "@ROOT@/htdocs/app">\n    SetHandler lua-script\n    LuaScope thread\n</Directory>\n'
            "LuaCodeCache forever",
            {"htdocs/app/hello.lua": _app("hello.lua"), **_PAGE},
        )
        return httpd(tools, f"mod_lua-{mpm}", config, sizes)

    return open_


# ---------------------------------------------------------------- Python servers


def _asyncio(loop: str) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        python = sys.executable if loop == "asyncio" else str(tools.peers_python)
        return program(tools, loop, [python, str(APPS / "asyncio_echo.py"), "@PORT@", loop])

    return open_


def _gevent(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
    return program(tools, "gevent", [str(tools.peers_python), str(APPS / "gevent_echo.py"), "@PORT@"])


# ---------------------------------------------------------------- the lists


def echo_peers(mpms: tuple[str, ...]) -> list[Peer]:
    """The contestants of the echo measurements, neighbours in time being those that are compared."""
    peers: list[Peer] = []
    for mpm in mpms:
        baseline = f"mod_echo-{mpm}"
        peers += [
            Peer(f"{OURS}-{mpm}", OURS, mpm, _python_echo(OURS, mpm), baseline),
            Peer(baseline, "mod_echo", mpm, _mod_echo(mpm), baseline),
            Peer(f"{OLD}-{mpm}", OLD, mpm, _python_echo(OLD, mpm), baseline),
        ]
    baseline = f"mod_echo-{mpms[0]}"
    peers += [
        Peer("asyncio", "asyncio", None, _asyncio("asyncio"), baseline),
        Peer("uvloop", "uvloop", None, _asyncio("uvloop"), baseline),
        Peer("gevent", "gevent", None, _gevent, baseline),
    ]
    return peers


def _async_echo(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
    modules, environment = _ours(tools)
    # No thread per connection: httpd's default number of threads, and room for what the others get in threads.
    factor = -(-sizes.threads // (ASYNC_SIZES.threads - 2)) + 1
    config = HttpdConfig(
        mpm="event",
        modules=modules,
        directives=f"AsyncRequestWorkerFactor {factor}\n"
        "PythonPath \"sys.path + ['@ROOT@']\"\n"
        "PythonInterpreter main_interpreter\n"
        "PythonConnectionHandler async_echo",
        files={"async_echo.py": _app("async_echo.py")},
        environment=environment,
    )
    return httpd(tools, ASYNC, config, ASYNC_SIZES)


def _protocol(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
    return program(tools, PROTOCOL, [str(tools.peers_python), str(APPS / "protocol_echo.py"), "@PORT@"])


def async_peers() -> list[Peer]:
    """The contestants for coroutine handlers: the same work on other event loops, and with threads."""
    baseline = "asyncio"
    return [
        Peer(ASYNC, ASYNC, "event", _async_echo, baseline),
        Peer("asyncio", "asyncio", None, _asyncio("asyncio"), baseline),
        Peer(PROTOCOL, PROTOCOL, None, _protocol, baseline),
        Peer("uvloop", "uvloop", None, _asyncio("uvloop"), baseline),
        Peer(f"{OURS}-event", OURS, "event", _python_echo(OURS, "event"), baseline),
        Peer("mod_echo-event", "mod_echo", "event", _mod_echo("event"), baseline),
    ]


def hello_peers(mpms: tuple[str, ...]) -> list[Peer]:
    """The contestants of the HTTP measurements."""
    peers: list[Peer] = []
    for mpm in mpms:
        for variant in ("", FLUSHED):
            ours, c, old = OURS + variant, "c" + variant, OLD + variant
            baseline = f"{c}-{mpm}"
            peers += [
                Peer(f"{ours}-{mpm}", ours, mpm, _python_hello(ours, mpm), baseline),
                Peer(baseline, c, mpm, _c_handler(c, mpm), baseline),
                Peer(f"{old}-{mpm}", old, mpm, _python_hello(old, mpm), baseline),
            ]
        baseline = f"c-{mpm}"
        peers += [
            Peer(f"static-{mpm}", "static", mpm, _static(mpm), baseline),
            Peer(f"mod_wsgi-{mpm}", "mod_wsgi", mpm, _mod_wsgi(mpm), baseline),
            Peer(f"mod_lua-{mpm}", "mod_lua", mpm, _mod_lua(mpm), baseline, "/app/hello.lua"),
        ]
    return peers


def psp_peers(mpms: tuple[str, ...]) -> list[Peer]:
    """The contestants of the measurements of PSP pages: the two generations of mod_python."""
    return [
        Peer(f"{family}-{mpm}", family, mpm, _python_psp(family, mpm), f"{OLD}-{mpm}", "/app/hello.psp")
        for mpm in mpms
        for family in (OURS, OLD)
    ]


def publisher_peers(mpms: tuple[str, ...]) -> list[Peer]:
    """The contestants of the publisher measurements: a published function with a parameter, by its URL."""
    peers: list[Peer] = []
    for mpm in mpms:
        baseline = f"c-{mpm}"
        peers += [
            Peer(f"{OURS}-{mpm}", OURS, mpm, _publisher(OURS, mpm), baseline, "/app/pages/hello"),
            Peer(baseline, "c", mpm, _c_handler("c", mpm), baseline),
            Peer(f"{OLD}-{mpm}", OLD, mpm, _publisher(OLD, mpm), baseline, "/app/pages/hello"),
        ]
    return peers


def wait_peers(mpms: tuple[str, ...]) -> list[Peer]:
    """The contestants whose handlers mostly wait: how many can do so at a time."""
    peers: list[Peer] = []
    for mpm in mpms:
        ours, old = OURS + WAITING, OLD + WAITING
        baseline = f"mod_wsgi{WAITING}-{mpm}"
        peers += [
            Peer(f"{ours}-{mpm}", ours, mpm, _python_hello(ours, mpm), baseline),
            Peer(baseline, "mod_wsgi" + WAITING, mpm, _mod_wsgi(mpm, "waiting.wsgi"), baseline),
            Peer(f"{old}-{mpm}", old, mpm, _python_hello(old, mpm), baseline),
        ]
    return peers


def wsgi_peers(mpms: tuple[str, ...]) -> list[Peer]:
    """The contestants that run the same WSGI application."""
    peers: list[Peer] = []
    for mpm in mpms:
        baseline = f"mod_wsgi-{mpm}"
        peers += [
            Peer(f"{OURS}-{mpm}", OURS, mpm, _python_wsgi(OURS, mpm), baseline),
            Peer(baseline, "mod_wsgi", mpm, _mod_wsgi(mpm), baseline),
            Peer(f"{OLD}-{mpm}", OLD, mpm, _python_wsgi(OLD, mpm), baseline),
        ]
    return peers


def select(peers: list[Peer], patterns: list[str] | None) -> list[Peer]:
    """Picks contestants.

    Args:
        peers: those there are
        patterns: names, families or shell patterns (``ours-*``); None picks all

    Returns:
        The chosen ones in their own order, perhaps none.
    """
    if patterns is None:
        return peers
    return [peer for peer in peers if any(fits(peer, pattern) for pattern in patterns)]


def fits(peer: Peer, pattern: str) -> bool:
    """Whether a name, family or shell pattern means this contestant."""
    return pattern == peer.family or fnmatchcase(peer.name, pattern)

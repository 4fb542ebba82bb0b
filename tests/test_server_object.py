"""The server object, and how options and settings of several levels come together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mod_python.testing import Server
from tests.processes import at_same_time
from tests.servers import running

HANDLERS = '''
import json
from mod_python import apache

def members(req):
    found = {}
    for label, server in (("main", apache.main_server), ("own", req.server)):
        values = {}
        for name in dir(type(server)):
            if not name.startswith("__") and type(getattr(type(server), name)).__name__ == "getset_descriptor":
                value = getattr(server, name)
                values[name] = [type(value).__name__, value if isinstance(value, (str, int, float, tuple)) else None]
        found[label] = values
    return found

def identity(req):
    own, main = req.server, apache.main_server
    servers, server = [], main
    while server is not None:
        servers.append(server)
        server = server.next
    refused = []
    for change in (lambda: setattr(own, "port", 1), lambda: delattr(own, "port"), lambda: type(own)()):
        try:
            change()
        except (AttributeError, TypeError):
            refused.append(True)
    own.mark = 1
    return {
        "same": req.server is own and own in servers and servers[0] is main,
        "count": len(servers),
        "type": str(type(main)),
        "base": req.connection.base_server is own,
        "refused": len(refused),
        "repr": repr(own),
        "own attribute": own.mark,
        "config identity": own.get_options() == own.get_options(),
    }

def levels(req):
    return {
        "main": dict(apache.main_server.get_options().items()),
        "base": dict(req.connection.base_server.get_options().items()),
        "conn": dict(req.connection.get_options().items()),
        "server": dict(req.server.get_options().items()),
        "request": dict(req.get_options().items()),
        "equal": req.get_options() == apache.table(dict(req.get_options().items())),
    }

def config(req):
    return {
        "main": dict(apache.main_server.get_config().items()),
        "server": dict(req.server.get_config().items()),
        "request": dict(req.get_config().items()),
        "settings": req.settings,
    }

def current(req):
    return {
        "config": apache.get_current_config() == req.get_config(),
        "options": apache.get_current_options() == req.get_options(),
    }

def only_testing(req):
    return req.get_options() == apache.table({"testing": "123"})

def store(req):
    """Tables of a server are live."""
    apache.main_server.get_options()["stored"] = req.args
    req.server.get_options()["stored-here"] = req.args
    return apache.main_server.get_options()["stored"]

def stored(req):
    main, own = apache.main_server.get_options(), req.server.get_options()
    return [main.get("stored"), own.get("stored-here"), dict(req.get_options().items()).get("stored-here")]

def remember(req):
    def at_end(data):
        apache.log_error("clean-up of the server with %s" % data)
    refused = 0
    for wrong in ((None, at_end), (req, None), (req, "x"), (1, at_end)):
        try:
            req.server.register_cleanup(*wrong)
        except ValueError:
            refused += 1
    req.server.register_cleanup(req, at_end, "data-1")
    req.server.register_cleanup(req, at_end)
    apache.register_cleanup(at_end, "data-2")
    return refused

def functions(req):
    raised = 0
    for wrong in ("1", None, 1.5):
        try:
            apache.mpm_query(wrong)
        except TypeError:
            raised += 1
    return {
        "root": apache.server_root(),
        "defines": [apache.exists_config_define(name) for name in ("SITE", "NO_SUCH_DEFINE")],
        "threaded": apache.mpm_query(apache.AP_MPMQ_IS_THREADED),
        "daemons": apache.mpm_query(apache.AP_MPMQ_MAX_DAEMON_USED),
        "raised": raised,
        "tree": apache.config_tree(),
        "interpreter": [apache.interpreter, req.interpreter],
    }

def handler(req):
    req.content_type = "application/json"
    req.write(json.dumps(globals()[req.uri.rpartition("/")[2]](req)))
    return apache.OK
'''

CONFIG = """
ServerAdmin main@example.com
Timeout 50
PythonOption level main
PythonOption only_main 1
PythonOption mod_python.reserved 1
PythonOption Case main
PythonDebug Off
SetHandler mod_python
PythonHandler ${SITE}/handlers.py
<Location /cleared>
    PythonOption level
    PythonOption only_main ""
    PythonOption mod_python.reserved
    PythonOption Case ""
    PythonOption testing 123
</Location>
<VirtualHost 127.0.0.1:${PORT2}>
    ServerName host.example
    ServerAlias plain.example *.wild.example other.example ?.wild.example
    ServerAdmin host@example.com
    ServerPath /path
    KeepAlive On
    KeepAliveTimeout 7
    MaxKeepAliveRequests 33
    LimitRequestLine 4000
    LimitRequestFieldSize 3000
    LimitRequestFields 50
    LogLevel info
    ErrorLog logs/error_log
    PythonDebug On
    PythonAutoReload Off
    PythonPath "sys.path + ['/nowhere']"
    PythonInterpreter main_interpreter
    PythonOption level host
    PythonOption only_host 1
    PythonOption only_main ""
    <Location />
        PythonOption level location
    </Location>
    <Location /inner>
        PythonOption level inner
        PythonOption only_host
        PythonOption only_main back
        PythonOption new ""
        PythonDebug Off
        PythonAutoReload On
    </Location>
    <Location /a>
        PythonOption who a
        PythonOption gone ""
    </Location>
    <Location /b>
        PythonOption who b
        PythonOption level ""
    </Location>
</VirtualHost>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files={"handlers.py": HANDLERS}, listen=2) as server:
        yield server


def ask(server: Server, path: str, index: int = 0) -> Any:
    """Return what a handler says, as Python objects."""
    response = server.get(path, index=index)
    assert response.status == 200, server.error_log[-3000:]
    return json.loads(response.body)


def test_members_of_a_virtual_host(server: Server) -> None:
    own = ask(server, "/members", 1)["own"]
    config_file = server.settings.config_file
    line = next(number for number, text in enumerate(config_file.read_text().split("\n"), 1) if "<VirtualHost" in text)
    expected = {
        "defn_name": str(config_file),
        "defn_line_number": line,
        "server_admin": "host@example.com",
        "server_hostname": "host.example",
        "names": ["plain.example", "other.example"],
        "wild_names": ["*.wild.example", "?.wild.example"],
        "port": 0,
        "error_fname": server.settings.error_log,
        "loglevel": 6,
        "is_virtual": 1,
        "timeout": 50.0,
        "keep_alive_timeout": 7.0,
        "keep_alive_max": 33,
        "keep_alive": 1,
        "path": "/path",
        "pathlen": 5,
        "limit_req_line": 4000,
        "limit_req_fieldsize": 3000,
        "limit_req_fields": 50,
        "my_generation": 0,
    }
    assert {name: own[name][1] for name in expected} == expected
    assert own["timeout"][0] == own["keep_alive_timeout"][0] == own["restart_time"][0] == "float"
    assert own["names"][0] == own["wild_names"][0] == "tuple"
    assert own["next"][0] == "NoneType"


def test_members_of_the_main_server(server: Server) -> None:
    main = ask(server, "/members")["main"]
    expected = {
        "server_admin": "main@example.com",
        "server_hostname": "localhost",
        "names": [],
        "wild_names": [],
        "is_virtual": 0,
        "loglevel": 7,
        "timeout": 50.0,
        "path": None,
        "pathlen": 0,
        "limit_req_line": 8190,
        "limit_req_fieldsize": 8190,
        "limit_req_fields": 100,
        "defn_name": None,
        "defn_line_number": 0,
    }
    assert {name: main[name][1] for name in expected} == expected
    assert main["next"][0] == "mp_server"
    assert main["restart_time"][1] > 1e9


def test_identity(server: Server) -> None:
    for index in (0, 1):
        answer = ask(server, "/identity", index)
        assert "mp_server" in answer.pop("repr")
        assert answer == {
            "same": True,
            "count": 2,
            "type": "<class 'mp_server'>",
            "base": True,
            "refused": 3,
            "own attribute": 1,
            "config identity": True,
        }


def test_row_5_4_options_of_each_level(server: Server) -> None:
    main = {"level": "main", "only_main": "1", "mod_python.reserved": "1", "Case": "main"}
    answer = ask(server, "/levels", 1)
    assert answer["main"] == main
    # A virtual host inherits; a key that it removes is there, empty.
    own = {**main, "level": "host", "only_host": "1", "only_main": ""}
    for level in ("base", "conn", "server"):
        assert answer[level] == own
    assert answer["request"] == {
        "level": "location",
        "only_host": "1",
        "mod_python.reserved": "1",
        "Case": "main",
    }
    assert answer["equal"]
    answer = ask(server, "/inner/levels", 1)
    assert answer["request"] == {
        "level": "inner",
        "only_main": "back",
        "mod_python.reserved": "1",
        "Case": "main",
    }


def test_row_5_3_options_can_all_be_removed(server: Server) -> None:
    assert ask(server, "/cleared/only_testing") is True
    # Reading them has changed nothing for others.
    assert ask(server, "/levels")["request"]["level"] == "main"


def test_row_5_6_concurrent_requests_see_their_own_options(server: Server) -> None:
    def many(path: str, expected: dict[str, str | None]) -> None:
        for _ in range(60):
            options = ask(server, path, 1)["request"]
            assert {key: options.get(key) for key in ("who", "level")} == expected

    at_same_time(
        lambda: many("/a/levels", {"who": "a", "level": "location"}),
        lambda: many("/b/levels", {"who": "b", "level": None}),
    )


def test_row_5_5_config_of_each_level(server: Server) -> None:
    answer = ask(server, "/config", 1)
    assert answer["main"]["PythonDebug"] == "0"
    assert answer["server"]["PythonDebug"] == "1"
    assert answer["server"]["PythonAutoReload"] == "0"
    assert answer["server"]["PythonPath"] == "sys.path + ['/nowhere']"
    assert answer["server"]["PythonInterpreter"] == "main_interpreter"
    assert answer["request"]["PythonDebug"] == "1"
    assert answer["settings"][:2] == [True, False]
    answer = ask(server, "/inner/config", 1)
    assert answer["server"]["PythonDebug"] == "1"
    assert answer["request"]["PythonDebug"] == "0"
    assert answer["request"]["PythonAutoReload"] == "1"
    assert answer["settings"][:2] == [False, True]
    answer = ask(server, "/config")
    assert answer["request"]["PythonDebug"] == "0"
    assert "PythonPath" not in answer["request"]


@pytest.mark.parametrize("path", ["/current", "/inner/current"])
def test_current_config_and_options(server: Server, path: str) -> None:
    assert ask(server, path, 1) == {"config": True, "options": True}


def test_tables_of_a_server_are_live() -> None:
    # They are those of one process.
    with running(CONFIG, files={"handlers.py": HANDLERS}, listen=2, processes=1) as server:
        assert ask(server, "/store?here", 1) == "here"
        # Nothing of it gets into what applies to requests.
        assert ask(server, "/stored", 1) == ["here", "here", None]


def test_functions(server: Server) -> None:
    answer = ask(server, "/functions")
    assert answer["root"] == str(server.root)
    assert answer["defines"] == [True, False]
    assert (answer["threaded"] != 0) == (server.mpm != "prefork")
    assert answer["daemons"] >= 1
    assert answer["raised"] == 3
    assert answer["interpreter"] == ["main_interpreter", "main_interpreter"]
    tree = answer["tree"]
    assert ["PythonOption", "level main"] in tree
    position = next(n for n, item in enumerate(tree) if item[0] == "<VirtualHost")
    assert ["ServerName", "host.example"] in tree[position + 1]


def test_row_1_3_and_row_1_4_clean_ups_at_the_end_of_a_child() -> None:
    with running(CONFIG, files={"handlers.py": HANDLERS}, listen=2) as server:
        assert ask(server, "/remember") == 4
    lines = [r.message for r in server.log_records() if "clean-up of the server" in r.message]
    assert [line.rpartition(" ")[2] for line in lines] == ["data-2", "None", "data-1"]


def test_generation() -> None:
    with running(CONFIG, files={"handlers.py": HANDLERS}, listen=2) as server:
        before = ask(server, "/members")["main"]
        assert before["my_generation"][1] == 0
        server.graceful()
        after = {}

        def new_generation() -> bool:
            # A child of the old one may still answer.
            after.update(ask(server, "/members")["main"])
            return bool(after["my_generation"][1] != 0)

        server.wait_until(new_generation)
        assert after["my_generation"][1] == 1
        assert after["restart_time"][1] >= before["restart_time"][1]

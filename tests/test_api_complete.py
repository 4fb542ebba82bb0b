"""Every name of `tools.list_api` is there, in a running httpd."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from mod_python.testing import Server
from tests.servers import running
from tools import list_api

HANDLER = """
import json
from mod_python import apache

def look(objects, wanted):
    missing = []
    for what, names in wanted.items():
        if what not in objects:
            missing += [what + "." + name for name in names]
            continue
        thing = objects[what]
        for name in names:
            if name.startswith("["):
                # An operation: on the type, as the interpreter looks for it.
                if not hasattr(type(thing), "__%s__" % name[1:-1]):
                    missing.append(what + "." + name)
                continue
            try:
                getattr(thing, name)
            except (AttributeError, ImportError):
                # On the type it may be a member that has no value just now.
                if not hasattr(type(thing), name):
                    missing.append(what + "." + name)
    return missing

def handler(req):
    import _apache
    wanted, constants = json.loads(req.read())
    objects = {
        "apache": apache,
        "CallBack": apache.CallBack(),
        "_apache": _apache,
        "module_info": apache.module_info(__name__),
        "__mp_info__": __mp_info__,
        "table": apache.table({"a": "b"}),
        "request": req,
        "connection": req.connection,
        "server": req.server,
        "hlist": req.hlist,
    }
    try:
        objects["finfo"] = req.finfo
    except AttributeError:
        pass
    for cls in vars(apache._core).values():
        # There is no filter here; its class tells what it has.
        if isinstance(cls, type) and cls.__name__ == "mp_filter":
            objects["filter"] = cls
    found = {name: getattr(apache, name, None) for name in constants}
    req.write(json.dumps([look(objects, wanted), found]))
    return apache.OK
"""


@pytest.fixture(scope="module")
def found() -> Any:
    with running("SetHandler mod_python\nPythonHandler ${SITE}/looking.py", files={"looking.py": HANDLER}) as server:
        body = json.dumps([list_api.OBJECTS, list(list_api.CONSTANTS)]).encode()
        response = server.request("POST", "/", body)
        assert response.status == 200, server.error_log
        return json.loads(response.text)


def missing_directives() -> list[str]:
    """Directives that httpd does not know (``httpd -L``)."""
    with Server() as server:
        settings = server.settings
        done = subprocess.run(
            [str(settings.httpd.binary), "-d", str(settings.root), "-f", str(settings.config_file), "-L"],
            env=settings.httpd.environ(),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    known = set(re.findall(r"^(Python\w+) \(mod_python\.c\)", done.stdout, re.MULTILINE))
    return [name for name in list_api.DIRECTIVES if name not in known]


def test_every_name_is_there(found: Any) -> None:
    missing = {*found[0], *missing_directives()}
    assert sorted(missing) == []


def test_constants_have_their_values(found: Any) -> None:
    assert found[1] == list_api.CONSTANTS


def test_the_list_is_long_and_names_nothing_twice() -> None:
    names = list_api.names()
    assert len(names) > 400
    assert len(names) == len(set(names))

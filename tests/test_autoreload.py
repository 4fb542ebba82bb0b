"""Handler modules that change while httpd runs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.servers import running

pytestmark = pytest.mark.long

NEW = (
    "from mod_python import apache\nVALUE = {value!r}\ndef handler(req):\n    req.write(VALUE)\n    return apache.OK\n"
)


def until(server: Server, path: str, text: str) -> None:
    """Wait until every process answers with a text; meanwhile every answer is 200."""

    def all_new() -> bool:
        answers = [server.get(path) for _ in range(8)]
        assert {answer.status for answer in answers} == {200}
        return {answer.text for answer in answers} == {text}

    server.wait_until(all_new, what=f"{text!r} at {path}")


CONFIG = """
DocumentRoot ${SITE}
<Directory ${SITE}>
    Require all granted
    SetHandler mod_python
    PythonHandler index
</Directory>
<Directory ${SITE}/never>
    PythonAutoReload Off
    PythonHandler index
</Directory>
<Directory ${SITE}/chain>
    PythonHandler index
</Directory>
<Directory ${SITE}/clone>
    PythonHandler index
</Directory>
<Directory ${SITE}/load>
    PythonHandler index
</Directory>
<Directory ${SITE}/broken>
    PythonHandler index
</Directory>
"""

FILES = {
    "index.py": NEW.format(value="old"),
    "never/index.py": NEW.format(value="old"),
    "chain/index.py": "import middle\ndef handler(req):\n    req.write(middle.text())\n    return 0\n",
    "chain/middle.py": "from bottom import VALUE\ndef text():\n    return 'value ' + VALUE\n",
    "chain/bottom.py": "VALUE = 'old'\n",
    "clone/index.py": """
counter = [0]

def __mp_clone__(new):
    new.counter = counter

VERSION = "one"
if "counter" not in globals():
    counter = [0]

def handler(req):
    counter[0] += 1
    req.write("%s %d" % (VERSION, counter[0]))
    return 0
""",
    "load/index.py": """
import part
VALUE = 0
def handler(req):
    req.write("%d %d" % (VALUE, part.VALUE))
    return 0
""",
    "load/part.py": "VALUE = 0\n",
    "broken/index.py": NEW.format(value="good"),
}


@pytest.fixture(scope="module")
def changing() -> Iterator[Server]:
    with running(CONFIG, files=FILES) as server:
        yield server


def test_changed_module_is_loaded_again(changing: Server) -> None:
    changing.write_file("index.py", NEW.format(value="old"))  # another test may have changed it
    until(changing, "/x", "old")
    changing.write_file("index.py", NEW.format(value="new"))
    until(changing, "/x", "new")
    # Older counts as well: a file that was put back.
    path = changing.write_file("index.py", NEW.format(value="old"))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    until(changing, "/x", "old")


def test_autoreload_off(changing: Server) -> None:
    until(changing, "/never/x", "old")
    changing.write_file("never/index.py", NEW.format(value="new"))
    changing.write_file("index.py", NEW.format(value="later"))
    until(changing, "/x", "later")  # by now a second has passed in every process
    assert {changing.get("/never/x").text for _ in range(8)} == {"old"}


def test_change_deep_down(changing: Server) -> None:
    until(changing, "/chain/x", "value old")
    changing.write_file("chain/bottom.py", "VALUE = 'new'\n")
    until(changing, "/chain/x", "value new")
    changing.write_file("chain/middle.py", "from bottom import VALUE\ndef text():\n    return 'now ' + VALUE\n")
    until(changing, "/chain/x", "now new")


def test_broken_change_and_its_repair(changing: Server) -> None:
    until(changing, "/broken/x", "good")
    changing.allow("broken/index.py")
    changing.write_file("broken/index.py", "VALUE = (\n")
    changing.wait_until(lambda: changing.get("/broken/x").status == 500)
    changing.wait_for_log(r"SyntaxError: ")
    changing.write_file("broken/index.py", NEW.format(value="repaired"))
    changing.wait_until(lambda: {changing.get("/broken/x").text for _ in range(8)} == {"repaired"})


def test_state_is_handed_over() -> None:
    # One process, so that there is one counter.
    with running(CONFIG, files=FILES, processes=1) as server:
        assert [server.get("/clone/x").text for _ in range(3)] == ["one 1", "one 2", "one 3"]
        source = FILES["clone/index.py"].replace('"one"', '"two"').replace("\ncounter = [0]\n", "\n", 1)
        server.write_file("clone/index.py", source)
        last = 3
        while True:
            version, count = server.get("/clone/x").text.split()
            last += 1
            assert int(count) == last
            if version == "two":
                break
        assert server.get("/clone/x").text == f"two {last + 1}"


def test_requests_during_reloads_see_a_whole_module(changing: Server) -> None:
    """Modules that belong together change under load: nobody fails or sees a mixture of versions."""
    stop = threading.Event()
    failures: list[str] = []
    seen: set[str] = set()

    def load() -> None:
        while not stop.is_set():
            response = changing.get("/load/x")
            seen.add(response.text)
            if response.status != 200:
                failures.append(response.text)

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for version in (1, 2):
            changing.write_file("load/part.py", f"import time\ntime.sleep(0.05)\nVALUE = {version}\n")
            until(changing, "/load/x", f"0 {version}")
        source = FILES["load/index.py"].replace("VALUE = 0", "VALUE = 1\nimport time\ntime.sleep(0.05)")
        changing.write_file("load/index.py", source)
        until(changing, "/load/x", "1 2")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert seen <= {"0 0", "0 1", "0 2", "1 2"}


def test_clock_of_the_file_system_does_not_matter(changing: Server) -> None:
    """Two versions with the same time differ in size or inode."""
    path = changing.write_file("index.py", NEW.format(value="first"))
    when = time.time_ns()
    os.utime(path, ns=(when, when))
    until(changing, "/x", "first")
    path = changing.write_file("index.py", NEW.format(value="other"))
    os.utime(path, ns=(when, when))
    until(changing, "/x", "other")

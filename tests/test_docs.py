"""Every program, configuration and command of the README and the manual, run.

How a block says what it is: `tests.pages`. In the pages, ``/srv/app`` is where the files
of a server are, 8000 (or 80) its HTTP port and 7000 its port for connections; here they
are a temporary directory and free ports.

What changes the machine (installing packages, the system's own httpd) is not run;
`NOT_RUN` checks such commands in another way. A command that is in neither way known
fails the test.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.cli import _parser as benchmark_parser
from build_support.errors import REMEDIES
from mod_python.httpd.errors import ConfigError
from mod_python.testing import Server
from tests import needs
from tests.pages import Block, Section, commands, matches, sections
from tests.projects import Project
from tests.serving import TIMEOUT, Running, Serve, environment, free_port
from tools.system import PYTHON_PACKAGES

pytestmark = pytest.mark.heavy


ROOT = Path(__file__).resolve().parent.parent
# benchmarks.md measures, which takes a quarter of an hour; `pytest benchmarks` tests its tools; its
# commands are checked below.
PAGES = [
    ROOT / "README.md",
    ROOT / "examples" / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "benchmarks.md"),
]
SITE = "/srv/app"
#: What of it is served, where files are.
PUBLIC = "public"
#: Programs in commands, and packages that files import, that not every machine has.
PROGRAMS = {"curl", "nc", "openssl", "redis-cli"}
PACKAGES = r"^\s*(?:from|import) (aiosmtpd|django|flask|redis|uvloop|wsproto)\b"
_PACKAGES = {*PYTHON_PACKAGES, *" ".join(command for rows in REMEDIES.values() for _, command in rows).split()}

ECHO = """\
from mod_python import apache

def connectionhandler(conn):

    while 1:
        conn.write(conn.readline())

    return apache.OK
"""


def _known_packages(command: str) -> bool:
    """The packages are those that the build and the setup themselves ask for."""
    words = command.removeprefix("sudo ").split()[2:]
    return bool(words) and _PACKAGES.issuperset(words)


def _extras_exist(command: str) -> bool:
    project = (ROOT / "pyproject.toml").read_text()
    return all(re.search(rf"^{extra} = \[", project, re.MULTILINE) for extra in re.findall(r"\[(\w+)\]", command))


def _accepted(command: str) -> bool:
    return True


#: Commands that are not run: pattern → another check.
NOT_RUN: dict[str, Callable[[str], bool]] = {
    r"(sudo )?(apt-get|dnf|apk|brew) ": _known_packages,
    r"(sudo )?([A-Z]+=\S+ )*(\S+/)?pip install ": _extras_exist,
    # The system's own httpd is not ours to change.
    r"(sudo )?(a2enmod python|apachectl \w+|systemctl \w+ (apache2|httpd))$": _accepted,
    r"(sudo )?\S+/mod_python module-config > /etc/": _accepted,
    r"(sudo )?python3(\.\d+)? -m venv /(opt|srv)/": _accepted,
    r"git clone ": _accepted,
    r"PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install ": _accepted,
}

# Stand-ins, so that neither program has to be installed (and real ones of some kinds
# go on waiting for a second).
_NC = """\
import socket, sys
*_, host, port = sys.argv
with socket.create_connection((host, int(port)), 30) as sock:
    sock.sendall(sys.stdin.buffer.read())
    sock.shutdown(socket.SHUT_WR)
    while data := sock.recv(65536):
        sys.stdout.buffer.write(data)
"""
_CURL = """\
import argparse, base64, http.cookiejar, os, ssl, sys, urllib.error, urllib.request
parser = argparse.ArgumentParser()
parser.add_argument("-s", action="store_true")
parser.add_argument("-i", action="store_true")
parser.add_argument("-L", action="store_true")
parser.add_argument("--insecure", action="store_true")
parser.add_argument("-o")
parser.add_argument("-w", default="")
parser.add_argument("-d", "--data-binary", dest="data")
parser.add_argument("-F", action="append", default=[])
parser.add_argument("-H", action="append", default=[])
parser.add_argument("-u")
parser.add_argument("-A")
parser.add_argument("-b")
parser.add_argument("-c")
parser.add_argument("url")
args = parser.parse_args()
request = urllib.request.Request(args.url, args.data.encode() if args.data else None)
if args.F:
    fields = [field.partition("=")[::2] for field in args.F]
    request.data = b""
    for name, value in fields:
        request.data += f'--xyz\\r\\nContent-Disposition: form-data; name="{name}"'.encode()
        if value.startswith("@"):
            value = value[1:]
            request.data += f'; filename="{value.rpartition("/")[2]}"\\r\\nContent-Type: text/plain'.encode()
            with open(value, "rb") as file:
                content = file.read()
        else:
            content = value.encode()
        request.data += b"\\r\\n\\r\\n" + content + b"\\r\\n"
    request.data += b"--xyz--\\r\\n"
    request.add_header("Content-Type", "multipart/form-data; boundary=xyz")
for header in args.H:
    request.add_header(*header.split(": ", 1))
if args.u:
    request.add_header("Authorization", "Basic " + base64.b64encode(args.u.encode()).decode())
if args.A:
    request.add_header("User-Agent", args.A)
jar = http.cookiejar.MozillaCookieJar()
if args.b and "=" in args.b:
    request.add_header("Cookie", args.b)
elif args.b and os.path.exists(args.b):
    jar.load(args.b, ignore_discard=True)
opener = urllib.request.build_opener(
    urllib.request.HTTPSHandler(context=ssl._create_unverified_context()), urllib.request.HTTPCookieProcessor(jar)
)
try:
    answer = opener.open(request, timeout=30)
except urllib.error.HTTPError as error:
    answer = error
body = answer.read()
if args.c:
    jar.save(args.c, ignore_discard=True)
if args.i:
    print(f"HTTP/1.1 {answer.status} {answer.reason}\\n{answer.headers}", end="")
if args.o is None:
    sys.stdout.flush()
    sys.stdout.buffer.write(body)
    sys.stdout.flush()
print(args.w.replace("%{http_code}", str(answer.status)).replace("\\\\n", "\\n"), end="")
"""


class Reader:
    """Someone who does what a section says.

    Args:
        directory: Where to work; httpd's children can read it.
        serve: Starts ``mod_python serve``.
        before: Blocks of earlier sections of the page, whose files exist already.
    """

    def __init__(self, directory: Path, serve: Serve, before: list[Block]) -> None:
        self.work = serve.directory
        self.serve = serve
        self.server: Server | None = None
        self.running: Running | None = None
        self.ports: dict[str, int] = {}
        self.files = {block.name: block.text for block in before if block.name}
        for name, text in self.files.items():
            serve.write(name, text)
        self.refusal: str | None = None
        self.logged: list[str] = []
        self.projects: list[Project] = []
        self.bin = directory / "bin"
        self.bin.mkdir()
        for name, source in (("nc", _NC), ("curl", _CURL)):
            program = self.bin / name
            program.write_text(f"#!{sys.executable}\n{source}")
            program.chmod(0o755)

    # ---- blocks

    def do(self, block: Block) -> None:
        """Do what one block says."""
        if block.language != "text":
            self.refusal = None
        if block.kind == "console":
            for command, output in commands(block.text):
                self.type(command, output)
        elif block.kind == "apache refused":
            self.refuse(block)
        elif block.kind == "apache" and not block.name:
            self.start(block)
        elif block.name and block.kind in ("python", "apache", "text"):
            self.files[block.name] = block.text
            self.serve.write(block.name, block.text)
            if block.language == "python":
                for name in re.findall(PACKAGES, block.text, re.MULTILINE):
                    needs.package(name)
                compile(block.text, block.name, "exec")
        elif block.kind == "text" and self.refusal is not None:
            assert " ".join(block.text.split()) in " ".join(self.refusal.split()), self.refusal
        elif block.kind == "text log":
            self.look_for(block.text)
        elif block.kind != "text diagram":
            raise AssertionError(
                f"line {block.line}: nobody knows how to run a block {block.kind!r}"
                f"{'' if block.name else ' without the name of a file before it'}; see tests/pages.py"
            )

    def start(self, block: Block) -> None:
        """Start a server with a configuration and the files so far."""
        self.stop()
        config, numbers = self._own(block.text)
        # The page of a DocumentRoot need not be there.
        files = {f"{PUBLIC}/README.txt": "", **self.files}
        self.server = Server(config, files=files, listen=max(len(numbers), 1))
        self.server.start()
        first = {"80": self.server.port, "7000": self.server.port, "8000": self.server.port}
        self.ports = {**first, **dict(zip(numbers, self.server.ports, strict=False))}

    def refuse(self, block: Block) -> None:
        """See that httpd does not start with a configuration."""
        self.stop()
        config, numbers = self._own(block.text)
        server = Server(config, files=self.files, listen=max(len(numbers), 1))
        try:
            with pytest.raises(ConfigError) as error:
                server.start()
        finally:
            server.stop()
        self.refusal = str(error.value)

    def _own(self, config: str) -> tuple[str, list[str]]:
        """Move a configuration to our directory and ports."""
        numbers = re.findall(r"^Listen (?:\S+:)?(\d+)", config, re.MULTILINE)
        config = re.sub(r"^(Listen|LoadModule python_module) .*\n", "", config, flags=re.MULTILINE)
        for index, number in enumerate(numbers, 1):
            config = config.replace(f"*:{number}>", f"*:${{PORT{index if index > 1 else ''}}}>")
        return config.replace(SITE, "${SITE}"), numbers

    # ---- commands

    def type(self, command: str, output: str) -> None:
        """Type a command and compare what it prints."""
        for pattern, check in NOT_RUN.items():
            if re.match(pattern, command):
                assert check(command), command
                return
        if command.startswith("mod_python create "):
            self.create(command)
        if command.startswith("make "):
            self.make(command)
        elif command.startswith("mod_python serve ") and "--print-config" not in command:
            assert not output, "serve runs in the foreground; its output is not compared"
            self.run(command.split()[2:], ROOT if "examples/" in command else self.work)
        else:
            self.compare(command, output)

    def make(self, command: str) -> None:
        """See that the target exists, and do what ``make run`` would do after the setup."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        done = subprocess.run(
            [needs.program("make"), "-n", *command.split()[1:]],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        serve = re.search(r"exec \S+/mod_python serve (.*) --listen (\S+)$", done.stdout, re.MULTILINE)
        if command.split()[1] == "run":
            assert serve is not None, done.stdout
            assert serve[2] == "127.0.0.1:7000"
            self.run(serve[1].split(), ROOT)

    def run(self, arguments: list[str], directory: Path) -> None:
        """Run ``mod_python serve`` on a free port."""
        if "--tls-self-signed" in arguments:
            needs.program("openssl")
        self.stop()
        port = free_port()
        self.serve.directory = directory
        self.running = self.serve.start(*arguments, "--listen", f"127.0.0.1:{port}")
        self.serve.directory = self.work
        self.ports = {"7000": port, "8000": port}

    def create(self, command: str) -> None:
        """Have a project use a free port."""
        project = Project(self.work, command.split()[2])
        if project.root not in (known.root for known in self.projects):
            self.projects.append(project)
            self.ports = {"8888": project.port}

    def compare(self, command: str, output: str) -> None:
        """Run a command in the shell."""
        if "80" in self.ports:
            command = command.replace("http://127.0.0.1/", f"http://127.0.0.1:{self.ports['80']}/")
        for number, port in self.ports.items():
            command = re.sub(rf"(127\.0\.0\.1[ :]){number}\b", rf"\g<1>{port}", command)
        path = os.pathsep.join([str(self.bin), str(Path(sys.executable).parent), os.environ["PATH"]])
        for name in set(command.split()) & PROGRAMS:
            needs.program(name, path=path)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.work,
            env={**environment(), "PATH": path, **self._listen()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # in order, as on a terminal
            text=True,
            timeout=2 * TIMEOUT,
            check=False,
        )
        actual = done.stdout
        if self.server is not None:
            actual = actual.replace(str(self.server.site), SITE)
        for project in self.projects:
            actual = re.sub(rf":{project.port}\b", ":8888", actual)
        if re.match(r"(\S+/)?pytest ", command):
            assert done.returncode == 0, actual
            assert output.strip() in actual
        else:
            assert matches(output, actual), f"$ {command}\n{actual}(expected:)\n{output}"

    def _listen(self) -> dict[str, str]:
        return {"MOD_PYTHON_CREATE_LISTEN": f"127.0.0.1:{self.ports['8888']}"} if self.projects else {}

    # ---- the error log

    def look_for(self, text: str) -> None:
        """Wait until the error log has the lines of a block; they were expected."""
        assert self.server is not None
        for line in text.splitlines():
            pattern = ".*".join(re.escape(part) for part in line.replace(SITE, str(self.server.site)).split("..."))
            self.server.allow(pattern)
            self.server.wait_for_log(pattern)

    def stop(self) -> None:
        """End what was started, and see that it went well."""
        if self.server is not None:
            server, self.server = self.server, None
            server.stop()
            assert server.problems() == []
        if self.running is not None:
            running, self.running = self.running, None
            assert running.interrupt() == 0, running.output
            assert "Traceback" not in running.output, running.output
        while self.projects:
            project = self.projects.pop()
            pid = project.server.pid()
            project.end()
            log = project.root / "logs" / "error_log"
            if pid is not None or log.exists():
                assert not re.search("Traceback|exit signal", log.read_text()), log.read_text()


def _cases() -> Iterator[object]:
    for page in PAGES:
        before: list[Block] = []
        for section in sections(page):
            name = f"{page.relative_to(ROOT)}: {section.title}"
            yield pytest.param(section, list(before), id=name)
            before += section.blocks


@pytest.mark.parametrize(("section", "before"), list(_cases()))
def test_section(section: Section, before: list[Block], public_path: Path, serve: Serve) -> None:
    reader = Reader(public_path, serve, before)
    try:
        for block in section.blocks:
            reader.do(block)
        reader.stop()
    finally:
        if reader.server is not None:
            reader.server.stop()
        for project in reader.projects:
            project.end()


def test_every_program_is_used() -> None:
    """A file that no later block mentions was only compiled, not run."""
    for page in PAGES:
        blocks = [block for section in sections(page) for block in section.blocks]
        for number, block in enumerate(blocks):
            if block.name:
                stem = re.escape(Path(block.name).stem)
                later = "".join(other.text for other in blocks[number + 1 :])
                assert re.search(rf"\b{stem}\b", later), f"{page.name}:{block.line}: {block.name} is never run"


def test_benchmark_commands_are_understood() -> None:
    """Running them takes too long; that their options exist can be told at once."""
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    found = re.findall(r"^(?: {4}|\$ )python -m benchmarks(.*)$", text, re.MULTILINE)
    assert len(found) >= 5
    for arguments in found:
        benchmark_parser().parse_args(shlex.split(arguments))  # exits if it does not understand


def test_the_echo_server_is_the_same_everywhere() -> None:
    found = [
        block.text
        for page in (ROOT / "README.md", ROOT / "docs" / "connections.md", ROOT / "docs" / "serve.md")
        for section in sections(page)
        for block in section.blocks
        if block.name == "echo.py"
    ]
    assert len(found) >= 3
    assert set(found) == {ECHO}
    assert (ROOT / "examples" / "echo" / "echo.py").read_text() == ECHO


def test_the_programs_of_the_chapter_on_protocols_are_the_examples() -> None:
    examples = {path.name: path.read_text() for path in (ROOT / "examples").glob("*/*.py")}
    page = ROOT / "docs" / "protocols.md"
    blocks = {block.name: block.text for section in sections(page) for block in section.blocks if block.name}
    same = [name for name, text in blocks.items() if name in examples and text == examples[name]]
    assert [name for name in blocks if name in examples] == same
    assert len(same) == 9


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "docs" / "benchmarks.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name

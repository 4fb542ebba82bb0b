"""What the directives accept, and how they refuse the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fix_configtest import Refusal

pytest_plugins = ["tests.fix_configtest"]

# Handler directives that may stand anywhere, and only outside sections.
PHASES_ANYWHERE = [
    "PythonHeaderParserHandler",
    "PythonInitHandler",
    "PythonAccessHandler",
    "PythonAuthenHandler",
    "PythonAuthzHandler",
    "PythonTypeHandler",
    "PythonFixupHandler",
    "PythonHandler",
    "PythonLogHandler",
    "PythonCleanupHandler",
    "PythonHandlerModule",
]
PHASES_SERVER = ["PythonPostReadRequestHandler", "PythonTransHandler"]

FLAGS_ANYWHERE = [
    "PythonAutoReload",
    "PythonDebug",
    "PythonEnablePdb",
    "PythonInterpPerDirectory",
    "PythonInterpPerDirective",
]


def in_directory(line: str) -> str:
    return f"<Directory /srv/app>\n{line}\n</Directory>\n"


def in_virtual_host(line: str) -> str:
    return f"<VirtualHost *:80>\n{line}\n</VirtualHost>\n"


ACCEPTED = [
    "PythonHandler mod_python.publisher",
    "PythonHandler a b::c pkg.mod::Class.method",
    "PythonHandler my-app 404 _x",
    "PythonHandler größe::zähle",
    "PythonHandler /srv/app/pages.py",
    "PythonHandler /srv/app.d/.pages.txt::Class.method",
    "PythonHandler ~/pages.py",
    "PythonHandler a | .py",
    "PythonHandler a b|.py .tar.gz",
    in_directory("PythonHandler ./pages.py ../pages.py::f"),
    '<Directory "/srv/*">\nPythonHandler ./pages.py\n</Directory>',
    "<DirectoryMatch ^/srv/>\nPythonHandler ./pages.py\n</DirectoryMatch>",
    in_directory("<Files *.py>\nPythonHandler ./pages.py\n</Files>"),
    in_directory("<If true>\nPythonHandler ./pages.py\n</If>"),
    "<Location /a>\nPythonHandler a\n</Location>",
    '<LocationMatch "^/a(b|c)">\nPythonHandler a\n</LocationMatch>',
    in_virtual_host("PythonHandler a\nPythonConnectionHandler echo\nPythonOptimize On"),
    "PythonConnectionHandler echo\n" + in_virtual_host("PythonConnectionHandler other::f"),
    "PythonConnectionHandler /srv/echo.py::serve",
    "PythonConnectionInputFilter a b::c\nPythonConnectionInputFilter d",
    in_virtual_host("PythonConnectionOutputFilter /srv/a.py::f"),
    "PythonImport a.b main_interpreter\nPythonImport /srv/a.py::start other",
    "PythonInterpreter main_interpreter",
    in_directory("PythonInterpreter name"),
    "PythonOption key\nPythonOption key value\nPythonOption key ''",
    in_directory("PythonOption key value"),
    "PythonPath \"sys.path+['/srv/lib']\"",
    in_directory('PythonPath "[]"'),
    "PythonInputFilter a::b\nPythonInputFilter a::c Name\nPythonOutputFilter a::c NAME",
    in_directory("PythonOutputFilter ./pages.py Name\nPythonOutputFilter ./other.py Name"),
    "PythonOptimize On\nPythonOptimize Off",
    *(f"{name} On\n" + in_directory(f"{name} Off") for name in FLAGS_ANYWHERE),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(refusal: Refusal, text: str) -> None:
    assert refusal(text) is None


HANDLERS = [
    ("", "no handler is named; write module or module::object"),
    ("| .py", "no handler is named"),
    ("::f", "the module is missing"),
    ("a::", 'what follows "::" must be the name'),
    ("a::b::c", 'what follows "::" must be the name'),
    ("a::1", 'what follows "::" must be the name'),
    ("a::b.", 'what follows "::" must be the name'),
    ("a:b", 'write "::" between module and object'),
    ("a..b", "write the name of a module"),
    (".a", "write the name of a module"),
    ("good b?d", '"b?d" is not a handler'),
    ('"a"', "quotes are part of the name here; remove them"),
    ("a\\b", "paths are written with forward slashes"),
    ("a/b.py", 'a path must begin with "/", "~/", "./" or "../"'),
    ("/srv/app", "a path must name a file with its extension"),
    ("/srv/app/", "a path must name a file with its extension"),
    ("/srv/app.d/.py", "a path must name a file with its extension"),
    ("/srv/a.py::", 'what follows "::" must be the name'),
    ("./a.py", "write an absolute path, or put the directive in a <Directory> section"),
    ("../a.py", "there is no directory here"),
]
EXTENSIONS = [
    ("a |", 'no extension follows the "|"'),
    ("a | py", '"py" is not an extension; write it with its dot'),
    ("a | .", '"." is not an extension'),
    ("a | *.py", '"*.py" is not an extension'),
    ("a | .py | .html", '"|" is not an extension'),
    ('a | ".py"', "without quotes"),
]


@pytest.mark.parametrize(("argument", "message"), HANDLERS + EXTENSIONS)
def test_handler_refused(refusal: Refusal, argument: str, message: str) -> None:
    complaint = refusal(f"PythonHandler {argument}")
    assert complaint is not None
    assert complaint.startswith("line 1: PythonHandler: ")
    assert message in complaint


@pytest.mark.parametrize("directive", [*PHASES_SERVER, *PHASES_ANYWHERE])
def test_every_phase_checks_its_handlers(refusal: Refusal, directive: str) -> None:
    complaint = refusal(f"\n{directive} good b?d")
    assert complaint is not None
    assert complaint.startswith(f'line 2: {directive}: "b?d" is not a handler: ')


@pytest.mark.parametrize("directive", [*PHASES_SERVER, "PythonConnectionHandler"])
def test_no_extension_without_a_file(refusal: Refusal, directive: str) -> None:
    assert refusal(f"{directive} a | .py") == f'line 1: {directive} does not accept "| .ext" syntax.'


@pytest.mark.parametrize("section", ["Location /a", "LocationMatch ^/a", "Location /a*"])
def test_location_has_no_directory(refusal: Refusal, section: str) -> None:
    end = section.split()[0]
    complaint = refusal(f"<{section}>\nPythonHandler ./a.py\n</{end}>")
    assert complaint is not None
    assert complaint.startswith("line 2: ")
    assert "there is no directory here" in complaint


@pytest.mark.parametrize(
    "line",
    [
        *(f"{name} a" for name in PHASES_SERVER),
        "PythonConnectionHandler a",
        "PythonConnectionInputFilter a",
        "PythonConnectionOutputFilter a",
        "PythonImport a main_interpreter",
        "PythonOptimize On",
    ],
)
@pytest.mark.parametrize("section", ["Directory /srv", "Location /", "Files x"])
def test_only_outside_sections(refusal: Refusal, line: str, section: str) -> None:
    end = section.split()[0]
    complaint = refusal(f"<{section}>\n{line}\n</{end}>")
    assert complaint is not None
    assert complaint.startswith(f"line 2: {line.split()[0]} not allowed ")


@pytest.mark.parametrize(
    "line",
    [
        *(f"{name} a" for name in PHASES_ANYWHERE),
        *(f"{name} On" for name in FLAGS_ANYWHERE),
        "PythonInputFilter a",
        "PythonInterpreter a",
        "PythonOption a b",
        'PythonPath "[]"',
    ],
)
def test_methods_do_not_choose(refusal: Refusal, line: str) -> None:
    complaint = refusal(in_directory(f"<Limit POST>\n{line}\n</Limit>"))
    assert complaint is not None
    assert f"{line.split()[0]} cannot occur within <Limit> or <LimitExcept> section" in complaint


@pytest.mark.parametrize("directive", [*FLAGS_ANYWHERE, "PythonOptimize"])
@pytest.mark.parametrize("value", ["yes", "1", ""])
def test_flags_are_on_or_off(refusal: Refusal, directive: str, value: str) -> None:
    assert refusal(f"{directive} {value}") == f"line 1: {directive} must be On or Off"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PythonConnectionHandler a b", 'name one and remove "b"'),
        ("PythonConnectionHandler a\nPythonConnectionHandler b", 'name one and remove "b"'),
        ("PythonConnectionHandler ./a.py", "write an absolute path or the name of a module"),
        ("PythonConnectionHandler ~/a.py", "write an absolute path or the name of a module"),
        ("PythonConnectionHandler a|.py", "does not accept"),
        ("PythonConnectionInputFilter ./a.py", "write an absolute path or the name of a module"),
        ("PythonConnectionOutputFilter a|.py", "does not accept"),
        ("PythonConnectionOutputFilter", "no handler is named"),
        ("PythonImport a", "takes two arguments"),
        ("PythonImport a ''", "takes two arguments"),
        ("PythonImport a ' '", "the name of the interpreter is empty"),
        ("PythonImport ::f a", "the module is missing"),
        ("PythonImport ./a.py main_interpreter", "write an absolute path or the name of a module"),
        ("PythonImport a::b::c main_interpreter", 'what follows "::"'),
        (in_virtual_host("PythonImport a b"), "move the line out of <VirtualHost>"),
        ("PythonInterpreter ''", "takes one argument"),
        ("PythonInterpreter ' '", "the name is empty"),
        ("PythonInterpreter", "takes one argument"),
        ("PythonOption ''", "takes 1-2 arguments"),
        ("PythonOption ' ' value", "the key is empty"),
        ("PythonOption", "takes 1-2 arguments"),
        ("PythonOption key a value", "takes 1-2 arguments"),
        ("PythonPath ''", "takes one argument"),
        ("PythonPath ' '", "the expression is empty"),
        ("PythonPath sys.path + ['/a']", "takes one argument"),
        ("PythonInputFilter a/b", "a path must begin with"),
        ("PythonOutputFilter a 'b c'", "cannot be the name of a filter"),
        ("PythonInputFilter a x;y", "cannot be the name of a filter"),
        ("PythonOutputFilter a CONTENT_LENGTH", "the name of a filter of another module"),
        ("PythonOutputFilter a mod_python_Connection", "the name of a filter of another module"),
        ("PythonInputFilter a http_in", "the name of a filter of another module"),
    ],
)
def test_refused(refusal: Refusal, text: str, message: str) -> None:
    complaint = refusal(text)
    assert complaint is not None
    assert message in complaint
    assert text.splitlines()[-1 if "Host" not in text else 1].split()[0] in complaint


def test_the_line_of_the_offender_is_named(refusal: Refusal) -> None:
    complaint = refusal("PythonHandler a\n\n<Directory /srv>\nPythonDebug On\nPythonHandler b::\n</Directory>")
    assert complaint is not None
    assert complaint.startswith("line 5: PythonHandler: ")

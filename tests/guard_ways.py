"""A site of which every directory has the same files and ways to them, and guards of its own.

A guard refuses the files `*.secret`, which say SECRET, to clients without the header `X-Key: k`. What httpd's own
`<Files "*.secret">` with `Require all denied` does with each way is the measure.
"""

from __future__ import annotations

import base64
import hashlib

GUARD = """
from mod_python import apache

def refused(req):
    name = req.filename or ""
    return name.endswith(".secret") and req.headers_in.get("X-Key") != "k"

def accesshandler(req):
    return apache.HTTP_FORBIDDEN if refused(req) else apache.OK

def authenhandler(req):
    if refused(req):
        return apache.HTTP_UNAUTHORIZED
    req.user = "somebody"
    return apache.OK

def authzhandler(req):
    assert req.user == "good", req.user
    return apache.HTTP_FORBIDDEN if refused(req) else apache.DECLINED

def may(req, arguments):
    return not refused(req)

def handler(req):
    if req.method == "POST":
        req.read()
    if req.uri.endswith("away.redirect"):
        req.internal_redirect(req.uri.replace("away.redirect", "page.secret"))
        return apache.DONE
    return apache.DECLINED
"""

#: The same guard with no function but that of access control, for PythonHandlerModule.
MODULE = GUARD.partition("def authenhandler")[0] + "def handler" + GUARD.partition("def handler")[2]

BASIC = """
AuthType Basic
AuthName realm
AuthBasicProvider file
AuthUserFile ${SITE}/passwords
"""
_PYTHON = "${SITE}/guard.py"

#: name -> (the lines of the guard, what has to stand beside it). `| .secret` can be added to the first.
GUARDS = {
    "access": (f"PythonAccessHandler {_PYTHON}", "Require all granted"),
    "authen": (f"PythonAuthenHandler {_PYTHON}", f"{BASIC}Require valid-user"),
    "authz": (f"PythonAuthzHandler {_PYTHON}", f"{BASIC}Require valid-user"),
    "access of module": ("PythonHandlerModule ${SITE}/module.py", f"{BASIC}Require valid-user"),
    "satisfy any": (f"PythonAccessHandler {_PYTHON}", f"{BASIC}Satisfy Any\nRequire valid-user"),
}
#: Those that are no directive of mod_python.
REQUIRES = {
    "require": f"Require python {_PYTHON}::may",
    "require any": f"<RequireAny>\nRequire ip 192.0.2.1\nRequire python {_PYTHON}::may\n</RequireAny>",
    "require all": f"<RequireAll>\nRequire all granted\nRequire python {_PYTHON}::may\n</RequireAll>",
    "require with user": f"{BASIC}<RequireAll>\nRequire valid-user\nRequire python {_PYTHON}::may\n</RequireAll>",
}

#: Where a guard stands. Those with "ext" are restricted to an extension.
RULES = [
    "files", "directory", "directory ext", "htaccess", "htaccess ext", "match", "match ext", "location",
    "location match", "server", "server ext",
]  # fmt: skip

#: name -> (method, path in the directory).
WAYS = {
    "direct": ("GET", "page.secret"),
    "head": ("HEAD", "page.secret"),
    "path info": ("GET", "page.secret/more"),
    "index": ("GET", ""),
    "index head": ("HEAD", ""),
    "index post": ("POST", ""),
    "without slash": ("GET", "."),
    "multiviews": ("GET", "page"),
    "type map": ("GET", "map.var"),
    "internal redirect": ("GET", "away.redirect"),
    "rewritten": ("GET", "rewritten"),
    "error document": ("GET", "none"),
    "error document of a directory": ("GET", "nothing/"),
    "include virtual": ("GET", "virtual.shtml"),
    "include file": ("GET", "file.shtml"),
    "include of an include": ("GET", "outer.shtml"),
    "include of a directory": ("GET", "directory.shtml"),
    "fallback": ("GET", "fallback/x"),
    "alias": ("GET", "page.secret"),
    "alias index": ("GET", ""),
    "listing": ("GET", "list/"),
}

_FILES = {
    "index.secret": "SECRET index\n",
    "page.secret": "SECRET page\n",
    "open.txt": "open\n",
    "map.var": "URI: page.secret\nContent-Type: text/plain\n",
    "away.redirect": "",
    "virtual.shtml": '<!--#include virtual="page.secret" -->\n',
    "file.shtml": '<!--#include file="page.secret" -->\n',
    "outer.shtml": '<!--#include virtual="virtual.shtml" -->\n',
    "directory.shtml": '<!--#include virtual="./" -->\n',
    "list/SECRET-name.secret": "SECRET\n",
    "list/open.txt": "open\n",
    "fallback/open.txt": "open\n",
}

MODULES = [
    "mod_authn_core", "mod_authn_file", "mod_authz_user", "mod_authz_host", "mod_auth_basic", "mod_access_compat",
    "mod_negotiation", "mod_rewrite", "mod_include", "mod_autoindex", "mod_alias", "mod_dir",
]  # fmt: skip

_DIRECTORY = """
<Directory "${{SITE}}/h/{name}">
    AllowOverride All
    Options +MultiViews +Includes +Indexes +FollowSymLinks
    AcceptPathInfo On
    DirectoryIndex index.secret
    AddType text/plain .secret
    AddHandler type-map .var
    AddHandler mod_python .redirect
    PythonHandler ${{SITE}}/guard.py
    AddType text/html .shtml
    AddOutputFilter INCLUDES .shtml
    ErrorDocument 404 /{name}/page.secret
    RewriteEngine On
    RewriteRule ^rewritten$ page.secret
{lines}
</Directory>
Alias "/alias/{name}/" "${{SITE}}/h/{name}/"
<Directory "${{SITE}}/h/{name}/fallback">
    FallbackResource /{name}/page.secret
    DirectoryIndex disabled
</Directory>
<Directory "${{SITE}}/h/{name}/list">
    DirectoryIndex disabled
</Directory>
"""


def combinations() -> list[tuple[str, str]]:
    """Return the guards with the rules that they can stand in."""
    found = [(guard, rule) for guard in GUARDS for rule in RULES]
    # httpd has no Require for a whole server, and a requirement no extension.
    found += [(guard, rule) for guard in REQUIRES for rule in RULES if "ext" not in rule and rule != "server"]
    return found


def area(guard: str, rule: str) -> str:
    """Return the name of the directory of a combination."""
    return f"{guard}-{rule}".replace(" ", "-")


def _guarded(guard: str, rule: str) -> tuple[str, str, str, str]:
    """Return lines for the directory, its .htaccess file, outside, and for the server."""
    name = area(guard, rule)
    line, beside = GUARDS.get(guard, ("", ""))
    if rule.endswith(" ext"):
        line += " | .secret"
    both = REQUIRES.get(guard) or f"{line}\n{beside}"
    granted = "Require all granted"
    match rule.removesuffix(" ext"):
        case "files":
            return f'{granted}\n<Files "*.secret">\n{both}\n</Files>', "", "", ""
        case "directory":
            return both, "", "", ""
        case "htaccess":
            return granted, both, "", ""
        case "match":
            return granted, "", f'<DirectoryMatch "^${{SITE}}/h/{name}">\n{both}\n</DirectoryMatch>', ""
        case "location":
            both = f'<Location "/{name}">\n{both}\n</Location>\n<Location "/alias/{name}">\n{both}\n</Location>'
            return granted, "", both, ""
        case "location match":
            return granted, "", f'<LocationMatch "^(/alias)?/{name}(/|$)">\n{both}\n</LocationMatch>', ""
    assert rule.startswith("server"), rule
    return beside, "", "", line


def site() -> tuple[str, dict[str, str]]:
    """Return configuration and files of the server of all combinations.

    The directory "reference" has httpd's own rule, "open" has none.
    """
    digest = base64.b64encode(hashlib.sha1(b"right").digest()).decode()
    files = {"guard.py": GUARD, "module.py": MODULE, "passwords": f"good:{{SHA}}{digest}\n"}
    denied = 'Require all granted\n<Files "*.secret">\nRequire all denied\n</Files>'
    places = {"reference": (denied, "", "", ""), "open": ("Require all granted", "", "", "")}
    places |= {area(guard, rule): _guarded(guard, rule) for guard, rule in combinations()}
    plain, hosts = [], []
    for name, (inside, htaccess, outside, server) in places.items():
        files |= {f"h/{name}/{file}": text for file, text in _FILES.items()}
        if htaccess:
            files[f"h/{name}/.htaccess"] = htaccess + "\n"
        config = _DIRECTORY.format(name=name, lines=inside) + outside
        if server:
            start = f"<VirtualHost *:${{PORT}}>\nServerName {name}\nDocumentRoot ${{SITE}}/h\n"
            hosts.append(f"{start}{server}\n{config}\n</VirtualHost>")
        else:
            plain.append(config)
    first = "Protocols h2c http/1.1\n<VirtualHost *:${PORT}>\nServerName first\nDocumentRoot ${SITE}/h\n"
    return "\n".join([first, *plain, "</VirtualHost>", *hosts]), files

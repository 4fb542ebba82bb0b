"""The ready-made classes: one for each directive and section that configurations with Python need.

Which they are is also in `docs/httpdconf.md`.  What is not here is made in the same way, by deriving from
`Setting` or `Section`.
"""

from __future__ import annotations

import sys

from mod_python._httpdconf.tree import Section, Setting

__all__ = [
    "AcceptFilter",
    "AddHandler",
    "AddInputFilter",
    "AddOutputFilter",
    "AddType",
    "Alias",
    "AllowOverride",
    "AuthBasicAuthoritative",
    "AuthBasicProvider",
    "AuthDigestProvider",
    "AuthName",
    "AuthType",
    "CustomLog",
    "DefaultRuntimeDir",
    "Define",
    "Directory",
    "DirectoryIndex",
    "DirectoryMatch",
    "DocumentRoot",
    "ElseIf",
    "ErrorDocument",
    "ErrorLog",
    "ErrorLogFormat",
    "Files",
    "FilesMatch",
    "Group",
    "Header",
    "If",
    "IfDefine",
    "IfModule",
    "IfVersion",
    "Include",
    "IncludeOptional",
    "KeepAlive",
    "KeepAliveTimeout",
    "Limit",
    "LimitExcept",
    "LimitRequestBody",
    "Listen",
    "LoadModule",
    "Location",
    "LocationMatch",
    "LockFile",
    "LogFormat",
    "LogLevel",
    "MaxClients",
    "MaxConnectionsPerChild",
    "MaxRequestWorkers",
    "MaxRequestsPerChild",
    "MaxSpareServers",
    "MaxSpareThreads",
    "MaxThreadsPerChild",
    "MinSpareServers",
    "MinSpareThreads",
    "Mutex",
    "NameVirtualHost",
    "NumServers",
    "Options",
    "PidFile",
    "Proxy",
    "PythonAccessHandler",
    "PythonAuthenHandler",
    "PythonAuthnProvider",
    "PythonAuthzHandler",
    "PythonAutoReload",
    "PythonChildExitHandler",
    "PythonChildInitHandler",
    "PythonCleanupHandler",
    "PythonConnectionHandler",
    "PythonConnectionInputFilter",
    "PythonConnectionOutputFilter",
    "PythonDebug",
    "PythonEnablePdb",
    "PythonFixupHandler",
    "PythonHandler",
    "PythonHandlerModule",
    "PythonHeaderParserHandler",
    "PythonImport",
    "PythonInitHandler",
    "PythonInputFilter",
    "PythonInterpPerDirective",
    "PythonInterpPerDirectory",
    "PythonInterpreter",
    "PythonLogHandler",
    "PythonMapToStorageHandler",
    "PythonOptimize",
    "PythonOption",
    "PythonOutputFilter",
    "PythonPath",
    "PythonPostReadRequestHandler",
    "PythonPreConnectionHandler",
    "PythonQuickHandler",
    "PythonTransHandler",
    "PythonTypeHandler",
    "Redirect",
    "RequestHeader",
    "RequestReadTimeout",
    "Require",
    "SSLCertificateFile",
    "SSLCertificateKeyFile",
    "SSLEngine",
    "ScriptAlias",
    "ServerAdmin",
    "ServerAlias",
    "ServerLimit",
    "ServerName",
    "ServerPath",
    "ServerRoot",
    "ServerTokens",
    "SetEnv",
    "SetHandler",
    "SetInputFilter",
    "SetOutputFilter",
    "StartServers",
    "StartThreads",
    "ThreadLimit",
    "ThreadsPerChild",
    "Timeout",
    "TypesConfig",
    "UseCanonicalName",
    "User",
    "VirtualHost",
]

# A backslash is meant in expressions and formats, and in regular expressions.


class AcceptFilter(Setting):
    """How the kernel hands over new connections: ``http none``."""


class AddHandler(Setting):
    """A handler for files with an extension: ``mod_python .py``."""


class AddInputFilter(Setting):
    """An input filter for files with an extension."""


class AddOutputFilter(Setting):
    """An output filter for files with an extension."""


class AddType(Setting):
    """A content type for files with an extension."""


class Alias(Setting):
    """A path of URLs, and the file or directory it stands for."""


class AllowOverride(Setting):
    """What ``.htaccess`` files may change."""


class AuthBasicAuthoritative(Setting):
    """Whether nobody else is asked about a password."""


class AuthBasicProvider(Setting):
    """Who checks passwords: ``file``, ``python``."""


class AuthDigestProvider(Setting):
    """Who knows the digests of passwords: ``file``, ``python``."""


class AuthName(Setting):
    """What a password is for, as browsers show it."""


class AuthType(Setting):
    """The scheme of authentication: ``Basic``, ``Digest``."""


class CustomLog(Setting):
    """An access log, and its format."""


class DefaultRuntimeDir(Setting):
    """Where files of the running server are put."""


class Define(Setting):
    """A name to be used as ``${NAME}``, and its value."""


class DirectoryIndex(Setting):
    """The files that stand for a directory."""


class DocumentRoot(Setting):
    """The directory of the files that are served."""


class ErrorDocument(Setting):
    """A status, and what is sent with it."""


class ErrorLog(Setting):
    """The error log."""


class ErrorLogFormat(Setting):
    """The format of the error log."""

    slashes = False


class Group(Setting):
    """The group of httpd's children, when it is started by root."""


class Header(Setting):
    """A change of the response's headers."""


class Include(Setting):
    """A configuration file to read here."""


class IncludeOptional(Setting):
    """The same, if it is there."""


class KeepAlive(Setting):
    """Whether a connection may carry several requests."""


class KeepAliveTimeout(Setting):
    """Seconds a connection may wait for its next request."""


class LimitRequestBody(Setting):
    """Bytes that the body of a request may have."""


class Listen(Setting):
    """An address and port to listen on: ``8888``, ``127.0.0.1:8888``."""


class LoadModule(Setting):
    """A module's name, and its file."""


class LockFile(Setting):
    """The lock file of httpd 2.2; a comment on Windows."""

    def __str__(self) -> str:
        text = super().__str__()
        return text.replace(self.name, f"#{self.name}", 1) if sys.platform == "win32" else text


class LogFormat(Setting):
    """A format of the access log, and its name."""

    slashes = False


class LogLevel(Setting):
    """From which level on messages are logged."""


class MaxClients(Setting):
    """The old name of `MaxRequestWorkers`."""


class MaxConnectionsPerChild(Setting):
    """Connections after which a child is replaced."""


class MaxRequestWorkers(Setting):
    """How many connections are served at once."""


class MaxRequestsPerChild(Setting):
    """The old name of `MaxConnectionsPerChild`."""


class MaxSpareServers(Setting):
    """The highest number of idle processes (prefork)."""


class MaxSpareThreads(Setting):
    """The highest number of idle threads."""


class MaxThreadsPerChild(Setting):
    """A limit of threads, on some old platforms."""


class MinSpareServers(Setting):
    """The lowest number of idle processes (prefork)."""


class MinSpareThreads(Setting):
    """The lowest number of idle threads."""


class Mutex(Setting):
    """The kind and place of httpd's locks."""


class NameVirtualHost(Setting):
    """An address of virtual hosts, for httpd 2.2."""


class NumServers(Setting):
    """A number of processes, on some old platforms."""


class Options(Setting):
    """What is allowed in a directory."""


class PidFile(Setting):
    """The file with the process id of the running httpd."""


class PythonAccessHandler(Setting):
    """A handler that decides by address, headers and the like."""


class PythonAuthenHandler(Setting):
    """A handler that checks who asks."""


class PythonAuthnProvider(Setting):
    """What ``AuthBasicProvider python`` asks."""


class PythonAuthzHandler(Setting):
    """A handler that decides whether the user may."""


class PythonAutoReload(Setting):
    """Whether changed modules are loaded again."""


class PythonChildExitHandler(Setting):
    """Handlers for the end of a child."""


class PythonChildInitHandler(Setting):
    """Handlers for the beginning of a child."""


class PythonCleanupHandler(Setting):
    """A handler for the very end of a request."""


class PythonConnectionHandler(Setting):
    """The handler of whole connections."""


class PythonConnectionInputFilter(Setting):
    """Filters of what connections bring."""


class PythonConnectionOutputFilter(Setting):
    """Filters of what goes out on connections."""


class PythonDebug(Setting):
    """Whether clients see details of errors."""


class PythonEnablePdb(Setting):
    """Whether handlers run under the debugger."""


class PythonFixupHandler(Setting):
    """A handler for last changes before the content."""


class PythonHandler(Setting):
    """The handler that makes the content."""


class PythonHandlerModule(Setting):
    """A module with handlers for any of the phases."""


class PythonHeaderParserHandler(Setting):
    """The first handler that knows about directories."""


class PythonImport(Setting):
    """What each child imports when it starts, and in which interpreter."""


class PythonInitHandler(Setting):
    """A handler for the beginning of a request."""


class PythonInputFilter(Setting):
    """An input filter, and its name."""


class PythonInterpPerDirective(Setting):
    """Whether each directory with handler directives has an interpreter of its own."""

    def __init__(self, val: object = "Off") -> None:
        super().__init__(val)


class PythonInterpPerDirectory(Setting):
    """Whether each directory of files has an interpreter of its own."""

    def __init__(self, val: object = "Off") -> None:
        super().__init__(val)


class PythonInterpreter(Setting):
    """The interpreter to run in."""


class PythonLogHandler(Setting):
    """A handler that logs."""


class PythonMapToStorageHandler(Setting):
    """A handler in place of looking at the file system."""


class PythonOptimize(Setting):
    """Whether Python code is compiled with optimisation."""


class PythonOption(Setting):
    """A key and a value for handlers."""


class PythonOutputFilter(Setting):
    """An output filter, and its name."""


class PythonPath(Setting):
    """The expression for ``sys.path``: ``"sys.path+['/srv/lib']"``."""

    slashes = False


class PythonPostReadRequestHandler(Setting):
    """A handler of every request, before anything is known about it."""


class PythonPreConnectionHandler(Setting):
    """Handlers that see a connection before it is used."""


class PythonQuickHandler(Setting):
    """A handler that answers before anything else is done."""


class PythonTransHandler(Setting):
    """A handler that turns the URL into a file name."""


class PythonTypeHandler(Setting):
    """A handler that sets content type and language."""


class Redirect(Setting):
    """A path of URLs, and where it has gone."""


class RequestHeader(Setting):
    """A change of the request's headers."""


class RequestReadTimeout(Setting):
    """Seconds that a client may take to send its request."""


class Require(Setting):
    """Who may have something."""


class ScriptAlias(Setting):
    """A path of URLs, and the directory of CGI scripts it stands for."""


class ServerAdmin(Setting):
    """Whom to write to about the server."""


class ServerAlias(Setting):
    """More names of a virtual host."""


class ServerLimit(Setting):
    """A limit for the number of processes."""


class ServerName(Setting):
    """The name of a server or virtual host."""


class ServerPath(Setting):
    """A path by which old clients reach a virtual host."""


class ServerRoot(Setting):
    """The directory to which relative paths refer."""


class ServerTokens(Setting):
    """How much the ``Server`` header tells."""


class SetEnv(Setting):
    """A variable for handlers and scripts."""


class SetHandler(Setting):
    """The handler of everything here: ``mod_python``."""


class SetInputFilter(Setting):
    """The input filters of everything here."""


class SetOutputFilter(Setting):
    """The output filters of everything here."""


class SSLCertificateFile(Setting):
    """The certificate (PEM)."""


class SSLCertificateKeyFile(Setting):
    """The certificate's private key (PEM)."""


class SSLEngine(Setting):
    """Whether TLS is spoken."""


class StartServers(Setting):
    """How many processes are started."""


class StartThreads(Setting):
    """How many threads are started, on some old platforms."""


class ThreadLimit(Setting):
    """A limit for `ThreadsPerChild`."""


class ThreadsPerChild(Setting):
    """Threads of a process."""


class Timeout(Setting):
    """Seconds that a client may keep the server waiting."""


class TypesConfig(Setting):
    """The file of content types."""


class UseCanonicalName(Setting):
    """Whether URLs are made with the server's own name."""


class User(Setting):
    """The user of httpd's children, when it is started by root."""


class Directory(Section):
    """What holds for a directory."""


class DirectoryMatch(Section):
    """What holds for directories that match a regular expression."""

    slashes = False


class ElseIf(Section):
    """What holds if an expression is true and those before it were not."""

    slashes = False


class Files(Section):
    """What holds for files with a name."""


class FilesMatch(Section):
    """What holds for files whose name matches a regular expression."""

    slashes = False


class If(Section):
    """What holds for requests for which an expression is true."""

    slashes = False


class IfDefine(Section):
    """What is read if a name is defined."""


class IfModule(Section):
    """What is read if a module is there: ``mod_ssl.c``."""


class IfVersion(Section):
    """What is read by some versions of httpd."""


class Limit(Section):
    """What holds for some methods."""


class LimitExcept(Section):
    """What holds for all but some methods."""


class Location(Section):
    """What holds for a path of URLs."""


class LocationMatch(Section):
    """What holds for URLs that match a regular expression."""

    slashes = False


class Proxy(Section):
    """What holds for what is passed on."""


class VirtualHost(Section):
    """A server of its own, by address and name."""

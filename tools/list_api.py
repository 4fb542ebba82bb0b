"""Every name that applications and configurations rely on.

    python3 -m tools.list_api

prints them: directives, and the names of `mod_python.apache`, `_apache` and of the
objects that handlers get.  They are written out here rather than asked for, so
that `tests/test_api_complete.py` notices when one is lost.
"""

from __future__ import annotations

_DIRECTIVES = """
    PythonPostReadRequestHandler PythonTransHandler PythonHeaderParserHandler PythonInitHandler
    PythonAccessHandler PythonAuthenHandler PythonAuthzHandler PythonTypeHandler PythonFixupHandler
    PythonHandler PythonLogHandler PythonCleanupHandler PythonHandlerModule PythonConnectionHandler
    PythonInputFilter PythonOutputFilter PythonImport PythonAutoReload PythonDebug PythonEnablePdb
    PythonInterpreter PythonInterpPerDirectory PythonInterpPerDirective PythonOptimize PythonOption
    PythonPath
"""

_CODES = """
    CONTINUE=100 SWITCHING_PROTOCOLS=101 PROCESSING=102 OK=200 CREATED=201 ACCEPTED=202 NON_AUTHORITATIVE=203
    NO_CONTENT=204 RESET_CONTENT=205 PARTIAL_CONTENT=206 MULTI_STATUS=207 ALREADY_REPORTED=208 IM_USED=226
    MULTIPLE_CHOICES=300 MOVED_PERMANENTLY=301 MOVED_TEMPORARILY=302 SEE_OTHER=303 NOT_MODIFIED=304 USE_PROXY=305
    TEMPORARY_REDIRECT=307 PERMANENT_REDIRECT=308 BAD_REQUEST=400 UNAUTHORIZED=401 PAYMENT_REQUIRED=402
    FORBIDDEN=403 NOT_FOUND=404 METHOD_NOT_ALLOWED=405 NOT_ACCEPTABLE=406 PROXY_AUTHENTICATION_REQUIRED=407
    REQUEST_TIME_OUT=408 CONFLICT=409 GONE=410 LENGTH_REQUIRED=411 PRECONDITION_FAILED=412
    REQUEST_ENTITY_TOO_LARGE=413 REQUEST_URI_TOO_LARGE=414 UNSUPPORTED_MEDIA_TYPE=415 RANGE_NOT_SATISFIABLE=416
    EXPECTATION_FAILED=417 IM_A_TEAPOT=418 MISDIRECTED_REQUEST=421 UNPROCESSABLE_ENTITY=422 LOCKED=423
    FAILED_DEPENDENCY=424 TOO_EARLY=425 UPGRADE_REQUIRED=426 PRECONDITION_REQUIRED=428 TOO_MANY_REQUESTS=429
    REQUEST_HEADER_FIELDS_TOO_LARGE=431 UNAVAILABLE_FOR_LEGAL_REASONS=451 INTERNAL_SERVER_ERROR=500
    NOT_IMPLEMENTED=501 BAD_GATEWAY=502 SERVICE_UNAVAILABLE=503 GATEWAY_TIME_OUT=504 VERSION_NOT_SUPPORTED=505
    VARIANT_ALSO_VARIES=506 INSUFFICIENT_STORAGE=507 LOOP_DETECTED=508 NOT_EXTENDED=510
    NETWORK_AUTHENTICATION_REQUIRED=511
"""
_NUMBERS = """
    OK=0 DECLINED=-1 DONE=-2 REQ_PROCEED=0 REQ_NOACTION=-1 REQ_ABORTED=500
    APLOG_EMERG=0 APLOG_ALERT=1 APLOG_CRIT=2 APLOG_ERR=3 APLOG_WARNING=4 APLOG_NOTICE=5 APLOG_INFO=6 APLOG_DEBUG=7
    APLOG_NOERRNO=0
    REMOTE_HOST=0 REMOTE_NAME=1 REMOTE_NOLOOKUP=2 REMOTE_DOUBLE_REV=3
    FINFO_MODE=0 FINFO_INO=1 FINFO_DEV=2 FINFO_NLINK=3 FINFO_UID=4 FINFO_GID=5 FINFO_SIZE=6 FINFO_ATIME=7
    FINFO_MTIME=8 FINFO_CTIME=9 FINFO_FNAME=10 FINFO_NAME=11 FINFO_FILETYPE=12
    URI_SCHEME=0 URI_HOSTINFO=1 URI_USER=2 URI_PASSWORD=3 URI_HOSTNAME=4 URI_PORT=5 URI_PATH=6 URI_QUERY=7
    URI_FRAGMENT=8
    PROXYREQ_NONE=0 PROXYREQ_PROXY=1 PROXYREQ_REVERSE=2 PROXYREQ_RESPONSE=3
    M_GET=0 M_PUT=1 M_POST=2 M_DELETE=3 M_CONNECT=4 M_OPTIONS=5 M_TRACE=6 M_PATCH=7 M_PROPFIND=8 M_PROPPATCH=9
    M_MKCOL=10 M_COPY=11 M_MOVE=12 M_LOCK=13 M_UNLOCK=14 M_VERSION_CONTROL=15 M_CHECKOUT=16 M_UNCHECKOUT=17
    M_CHECKIN=18 M_UPDATE=19 M_LABEL=20 M_REPORT=21 M_MKWORKSPACE=22 M_MKACTIVITY=23 M_BASELINE_CONTROL=24
    M_MERGE=25 M_INVALID=26
    AP_REQ_ACCEPT_PATH_INFO=0 AP_REQ_REJECT_PATH_INFO=1 AP_REQ_DEFAULT_PATH_INFO=2
    AP_MPMQ_NOT_SUPPORTED=0 AP_MPMQ_STATIC=1 AP_MPMQ_DYNAMIC=2 AP_MPMQ_MAX_DAEMON_USED=1 AP_MPMQ_IS_THREADED=2
    AP_MPMQ_IS_FORKED=3 AP_MPMQ_HARD_LIMIT_DAEMONS=4 AP_MPMQ_HARD_LIMIT_THREADS=5 AP_MPMQ_MAX_THREADS=6
    AP_MPMQ_MIN_SPARE_DAEMONS=7 AP_MPMQ_MIN_SPARE_THREADS=8 AP_MPMQ_MAX_SPARE_DAEMONS=9
    AP_MPMQ_MAX_SPARE_THREADS=10 AP_MPMQ_MAX_REQUESTS_DAEMON=11 AP_MPMQ_MAX_DAEMONS=12
    REQUEST_NO_BODY=0 REQUEST_CHUNKED_ERROR=1 REQUEST_CHUNKED_DECHUNK=2
    AP_CONN_UNKNOWN=0 AP_CONN_CLOSE=1 AP_CONN_KEEPALIVE=2
    APR_NOFILE=0 APR_REG=1 APR_DIR=2 APR_CHR=3 APR_BLK=4 APR_PIPE=5 APR_LNK=6 APR_SOCK=7 APR_UNKFILE=127
    APR_FINFO_LINK=0x1 APR_FINFO_MTIME=0x10 APR_FINFO_CTIME=0x20 APR_FINFO_ATIME=0x40 APR_FINFO_SIZE=0x100
    APR_FINFO_CSIZE=0x200 APR_FINFO_DEV=0x1000 APR_FINFO_INODE=0x2000 APR_FINFO_NLINK=0x4000
    APR_FINFO_TYPE=0x8000 APR_FINFO_USER=0x10000 APR_FINFO_GROUP=0x20000 APR_FINFO_UPROT=0x100000
    APR_FINFO_GPROT=0x200000 APR_FINFO_WPROT=0x400000 APR_FINFO_ICASE=0x1000000 APR_FINFO_NAME=0x2000000
    APR_FINFO_MIN=0x8170 APR_FINFO_IDENT=0x3000 APR_FINFO_OWNER=0x30000 APR_FINFO_PROT=0x700000
    APR_FINFO_NORM=0x73b170 APR_FINFO_DIRENT=0x2000000
"""

DIRECTIVES = _DIRECTIVES.split()

#: Names of constants -> their values.
CONSTANTS: dict[str, int | str] = {
    **{name: int(value, 0) for name, _, value in (word.partition("=") for word in _NUMBERS.split())},
    **{f"HTTP_{name}": int(value) for name, _, value in (word.partition("=") for word in _CODES.split())},
    "REQ_EXIT": "REQ_EXIT",
    "PROG_TRACEBACK": "PROG_TRACEBACK",
    "CGI_MAGIC_TYPE": "application/x-httpd-cgi",
    "INCLUDES_MAGIC_TYPE": "text/x-server-parsed-html",
    "INCLUDES_MAGIC_TYPE3": "text/x-server-parsed-html3",
    "DIR_MAGIC_TYPE": "httpd/unix-directory",
}

# A name in brackets is an operation: the special method behind it is looked for.
_OBJECTS = {
    "apache": """
        interpreter main_server table make_table SERVER_RETURN CallBack init
        MODULE_MAGIC_NUMBER_MAJOR MODULE_MAGIC_NUMBER_MINOR
        log_error import_module exists_config_define stat register_cleanup config_tree server_root mpm_query
        build_cgi_env setup_cgi restore_nocgi resolve_object CGIStdin CGIStdout NullIO
        freeze_modules modules_graph module_info request_modules_graph get_current_config get_current_options
        get_handler_root
        ConnectionClosed ConnectionTimeout DetachedError IncompleteRead LimitError
    """,
    "CallBack": "HandlerDispatch ConnectionDispatch FilterDispatch IncludeDispatch ImportDispatch ReportError",
    "_apache": """
        log_error config_tree server_root mpm_query exists_config_define stat table SERVER_RETURN
        AP_CONN_UNKNOWN AP_CONN_CLOSE AP_CONN_KEEPALIVE
        APR_NOFILE APR_REG APR_DIR APR_CHR APR_BLK APR_PIPE APR_LNK APR_SOCK APR_UNKFILE
        MODULE_MAGIC_NUMBER_MAJOR MODULE_MAGIC_NUMBER_MINOR parse_qs parse_qsl register_cleanup
        _global_lock _global_trylock _global_unlock
    """,
    "module_info": """
        label file mtime ctime atime module instance generation children path direct indirect reload
    """,
    "__mp_info__": "label file cache children",
    "table": """
        add has_key get setdefault keys values items iterkeys itervalues iteritems popitem update clear copy
        [getitem] [setitem] [delitem] [contains] [len] [iter] [eq] [ne] [repr] [str] [bool]
    """,
    "request": """
        connection server next prev main the_request assbackwards proxyreq header_only protocol proto_num hostname
        request_time status_line status method method_number allowed allowed_xmethods allowed_methods sent_bodyct
        bytes_sent mtime chunked range clength remaining read_length read_body read_chunked expecting_100
        headers_in headers_out err_headers_out subprocess_env notes phase interpreter content_type content_encoding
        content_languages handler vlist_validator user ap_auth_type no_cache no_local_copy unparsed_uri uri filename
        canonical_filename path_info args finfo parsed_uri used_path_info eos_sent useragent_addr useragent_ip hlist
        extension _content_type_set _bytes_queued _request_rec
        add_cgi_vars add_common_vars add_handler add_input_filter add_output_filter register_input_filter
        register_output_filter allow_methods auth_name auth_type construct_url discard_request_body document_root
        get_addhandler_exts get_basic_auth_pw get_config get_options get_remote_host internal_redirect is_https
        log_error meets_conditions set_content_length set_etag set_last_modified ssl_var_lookup update_mtime
        register_cleanup send_http_header build_wsgi_env wsgi_start_response
        read readline readlines write flush sendfile
    """,
    "connection": """
        base_server local_addr client_addr remote_addr client_ip remote_ip remote_host remote_logname aborted
        keepalive double_reverse keepalives local_ip local_host id notes hlist _conn_rec
        log_error read readline write
        readexactly readuntil peek flush can_write_eof write_eof close closed limit read_timeout write_timeout timeout
        [iter] [next]
    """,
    "server": """
        next defn_name defn_line_number server_admin server_hostname names wild_names port error_fname loglevel
        is_virtual timeout keep_alive_timeout keep_alive_max keep_alive path pathlen limit_req_line
        limit_req_fieldsize limit_req_fields my_generation restart_time _server_rec
        get_config get_options log_error register_cleanup
    """,
    "filter": """
        name req is_input handler dir parent closed softspace read readline write flush close pass_on disable
    """,
    "hlist": "handler directory location is_location parent silent next",
    "finfo": """
        fname filetype valid protection user group size inode device nlink atime mtime ctime name [getitem] [repr]
    """,
}

#: Object -> its names.
OBJECTS = {name: text.split() for name, text in _OBJECTS.items()}


def names() -> list[str]:
    """Return all of them: directives plain, others as ``object.name``."""
    found = list(DIRECTIVES)
    found += [f"apache.{name}" for name in CONSTANTS]
    for what, members in OBJECTS.items():
        found += [f"{what}.{member}" for member in members]
    return found


def main() -> None:
    """Print them, one on a line."""
    print("\n".join(names()))


if __name__ == "__main__":
    main()

"""Constants of `mod_python.apache`, which re-exports all of them.

The values are httpd's and APR's (httpd.h, http_log.h, http_protocol.h,
ap_mpm.h, util_filter.h, apr_file_info.h of httpd 2.4).  They are written out
rather than asked for, so that the package can be imported outside httpd.

Statuses are `Status`, an int that prints its name: a debugger or a failed test
shows ``HTTP_NOT_FOUND``, and ``404`` wherever text is made of it.  `enum` would
do the same, but importing it costs each httpd child some hundred kilobytes per
interpreter.  The other constants are plain ints.
"""

from __future__ import annotations


class Status(int):
    """A handler or HTTP status: an int whose repr is the constant's name."""

    __slots__ = ()

    def __repr__(self) -> str:
        return _STATUS_NAMES.get(self) or int.__repr__(self)

    # Text made of a status keeps to the number: "Status: %s", str(), f-strings.
    __str__ = int.__repr__


# -- statuses of handlers (httpd.h) --------------------------------------------
OK = Status(0)
DECLINED = Status(-1)
DONE = Status(-2)

# -- HTTP statuses (httpd.h; names are httpd's) --------------------------------
HTTP_CONTINUE = Status(100)
HTTP_SWITCHING_PROTOCOLS = Status(101)
HTTP_PROCESSING = Status(102)
HTTP_OK = Status(200)
HTTP_CREATED = Status(201)
HTTP_ACCEPTED = Status(202)
HTTP_NON_AUTHORITATIVE = Status(203)
HTTP_NO_CONTENT = Status(204)
HTTP_RESET_CONTENT = Status(205)
HTTP_PARTIAL_CONTENT = Status(206)
HTTP_MULTI_STATUS = Status(207)
HTTP_ALREADY_REPORTED = Status(208)
HTTP_IM_USED = Status(226)
HTTP_MULTIPLE_CHOICES = Status(300)
HTTP_MOVED_PERMANENTLY = Status(301)
HTTP_MOVED_TEMPORARILY = Status(302)
HTTP_SEE_OTHER = Status(303)
HTTP_NOT_MODIFIED = Status(304)
HTTP_USE_PROXY = Status(305)
HTTP_TEMPORARY_REDIRECT = Status(307)
HTTP_PERMANENT_REDIRECT = Status(308)
HTTP_BAD_REQUEST = Status(400)
HTTP_UNAUTHORIZED = Status(401)
HTTP_PAYMENT_REQUIRED = Status(402)
HTTP_FORBIDDEN = Status(403)
HTTP_NOT_FOUND = Status(404)
HTTP_METHOD_NOT_ALLOWED = Status(405)
HTTP_NOT_ACCEPTABLE = Status(406)
HTTP_PROXY_AUTHENTICATION_REQUIRED = Status(407)
HTTP_REQUEST_TIME_OUT = Status(408)
HTTP_CONFLICT = Status(409)
HTTP_GONE = Status(410)
HTTP_LENGTH_REQUIRED = Status(411)
HTTP_PRECONDITION_FAILED = Status(412)
HTTP_REQUEST_ENTITY_TOO_LARGE = Status(413)
HTTP_REQUEST_URI_TOO_LARGE = Status(414)
HTTP_UNSUPPORTED_MEDIA_TYPE = Status(415)
HTTP_RANGE_NOT_SATISFIABLE = Status(416)
HTTP_EXPECTATION_FAILED = Status(417)
HTTP_IM_A_TEAPOT = Status(418)
HTTP_MISDIRECTED_REQUEST = Status(421)
HTTP_UNPROCESSABLE_ENTITY = Status(422)
HTTP_LOCKED = Status(423)
HTTP_FAILED_DEPENDENCY = Status(424)
HTTP_TOO_EARLY = Status(425)
HTTP_UPGRADE_REQUIRED = Status(426)
HTTP_PRECONDITION_REQUIRED = Status(428)
HTTP_TOO_MANY_REQUESTS = Status(429)
HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE = Status(431)
HTTP_UNAVAILABLE_FOR_LEGAL_REASONS = Status(451)
HTTP_INTERNAL_SERVER_ERROR = Status(500)
HTTP_NOT_IMPLEMENTED = Status(501)
HTTP_BAD_GATEWAY = Status(502)
HTTP_SERVICE_UNAVAILABLE = Status(503)
HTTP_GATEWAY_TIME_OUT = Status(504)
HTTP_VERSION_NOT_SUPPORTED = Status(505)
HTTP_VARIANT_ALSO_VARIES = Status(506)
HTTP_INSUFFICIENT_STORAGE = Status(507)
HTTP_LOOP_DETECTED = Status(508)
HTTP_NOT_EXTENDED = Status(510)
HTTP_NETWORK_AUTHENTICATION_REQUIRED = Status(511)

_STATUS_NAMES: dict[int, str] = {
    int(_value): _name for _name, _value in list(globals().items()) if isinstance(_value, Status)
}

# Names of earlier generations.
REQ_PROCEED = OK
REQ_NOACTION = DECLINED
REQ_ABORTED = HTTP_INTERNAL_SERVER_ERROR
REQ_EXIT = "REQ_EXIT"
PROG_TRACEBACK = "PROG_TRACEBACK"

# -- log levels (http_log.h) ---------------------------------------------------
APLOG_EMERG = 0
APLOG_ALERT = 1
APLOG_CRIT = 2
APLOG_ERR = 3
APLOG_WARNING = 4
APLOG_NOTICE = 5
APLOG_INFO = 6
APLOG_DEBUG = 7
# Once a flag to be or-ed to a level; 8 to 15 are trace levels since httpd 2.4.
APLOG_NOERRNO = 0

# -- req.get_remote_host() -----------------------------------------------------
REMOTE_HOST = 0
REMOTE_NAME = 1
REMOTE_NOLOOKUP = 2
REMOTE_DOUBLE_REV = 3

# -- indexes into req.finfo ----------------------------------------------------
FINFO_MODE = 0
FINFO_INO = 1
FINFO_DEV = 2
FINFO_NLINK = 3
FINFO_UID = 4
FINFO_GID = 5
FINFO_SIZE = 6
FINFO_ATIME = 7
FINFO_MTIME = 8
FINFO_CTIME = 9
FINFO_FNAME = 10
FINFO_NAME = 11
FINFO_FILETYPE = 12

# -- indexes into req.parsed_uri -----------------------------------------------
URI_SCHEME = 0
URI_HOSTINFO = 1
URI_USER = 2
URI_PASSWORD = 3
URI_HOSTNAME = 4
URI_PORT = 5
URI_PATH = 6
URI_QUERY = 7
URI_FRAGMENT = 8

# -- req.proxyreq --------------------------------------------------------------
PROXYREQ_NONE = 0
PROXYREQ_PROXY = 1
PROXYREQ_REVERSE = 2
PROXYREQ_RESPONSE = 3

# -- req.method_number; HEAD has the number of GET -----------------------------
M_GET = 0
M_PUT = 1
M_POST = 2
M_DELETE = 3
M_CONNECT = 4
M_OPTIONS = 5
M_TRACE = 6
M_PATCH = 7
M_PROPFIND = 8
M_PROPPATCH = 9
M_MKCOL = 10
M_COPY = 11
M_MOVE = 12
M_LOCK = 13
M_UNLOCK = 14
M_VERSION_CONTROL = 15
M_CHECKOUT = 16
M_UNCHECKOUT = 17
M_CHECKIN = 18
M_UPDATE = 19
M_LABEL = 20
M_REPORT = 21
M_MKWORKSPACE = 22
M_MKACTIVITY = 23
M_BASELINE_CONTROL = 24
M_MERGE = 25
M_INVALID = 26

# -- req.used_path_info --------------------------------------------------------
AP_REQ_ACCEPT_PATH_INFO = 0
AP_REQ_REJECT_PATH_INFO = 1
AP_REQ_DEFAULT_PATH_INFO = 2

# -- mpm_query(): answers, then questions (ap_mpm.h) ---------------------------
AP_MPMQ_NOT_SUPPORTED = 0
AP_MPMQ_STATIC = 1
AP_MPMQ_DYNAMIC = 2

AP_MPMQ_MAX_DAEMON_USED = 1
AP_MPMQ_IS_THREADED = 2
AP_MPMQ_IS_FORKED = 3
AP_MPMQ_HARD_LIMIT_DAEMONS = 4
AP_MPMQ_HARD_LIMIT_THREADS = 5
AP_MPMQ_MAX_THREADS = 6
AP_MPMQ_MIN_SPARE_DAEMONS = 7
AP_MPMQ_MIN_SPARE_THREADS = 8
AP_MPMQ_MAX_SPARE_DAEMONS = 9
AP_MPMQ_MAX_SPARE_THREADS = 10
AP_MPMQ_MAX_REQUESTS_DAEMON = 11
AP_MPMQ_MAX_DAEMONS = 12

# -- magic content types -------------------------------------------------------
CGI_MAGIC_TYPE = "application/x-httpd-cgi"
INCLUDES_MAGIC_TYPE = "text/x-server-parsed-html"
INCLUDES_MAGIC_TYPE3 = "text/x-server-parsed-html3"
DIR_MAGIC_TYPE = "httpd/unix-directory"

# -- req.read_body -------------------------------------------------------------
REQUEST_NO_BODY = 0
REQUEST_CHUNKED_ERROR = 1
REQUEST_CHUNKED_DECHUNK = 2

# -- conn.keepalive (ap_conn_keepalive_e) --------------------------------------
AP_CONN_UNKNOWN = 0
AP_CONN_CLOSE = 1
AP_CONN_KEEPALIVE = 2

# -- file types (apr_filetype_e) -----------------------------------------------
APR_NOFILE = 0
APR_REG = 1
APR_DIR = 2
APR_CHR = 3
APR_BLK = 4
APR_PIPE = 5
APR_LNK = 6
APR_SOCK = 7
APR_UNKFILE = 127

# -- apache.stat() wishes (apr_file_info.h) ------------------------------------
APR_FINFO_LINK = 0x00000001
APR_FINFO_MTIME = 0x00000010
APR_FINFO_CTIME = 0x00000020
APR_FINFO_ATIME = 0x00000040
APR_FINFO_SIZE = 0x00000100
APR_FINFO_CSIZE = 0x00000200
APR_FINFO_DEV = 0x00001000
APR_FINFO_INODE = 0x00002000
APR_FINFO_NLINK = 0x00004000
APR_FINFO_TYPE = 0x00008000
APR_FINFO_USER = 0x00010000
APR_FINFO_GROUP = 0x00020000
APR_FINFO_UPROT = 0x00100000
APR_FINFO_GPROT = 0x00200000
APR_FINFO_WPROT = 0x00400000
APR_FINFO_ICASE = 0x01000000
APR_FINFO_NAME = 0x02000000
APR_FINFO_MIN = 0x00008170
APR_FINFO_IDENT = 0x00003000
APR_FINFO_OWNER = 0x00030000
APR_FINFO_PROT = 0x00700000
APR_FINFO_NORM = 0x0073B170
APR_FINFO_DIRENT = 0x02000000

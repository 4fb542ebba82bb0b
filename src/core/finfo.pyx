# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Finfo: information on a file, as httpd has it.  A copy, so that it stays
# valid after the request it came from.

cdef class Finfo:
    """Information on a file: ``req.finfo``, or from ``apache.stat()``.

    A field that is not known is None.  It can be indexed with FINFO_*, too.
    """
    cdef apr_finfo_t info           # without its pointers
    cdef bytes path, last           # fname and name; None for NULL

    def __init__(self):
        raise TypeError("cannot create 'mp_finfo' instances: see apache.stat()")

    cdef void store(self, apr_finfo_t *info, apr_pool_t *pool):
        info[0] = self.info
        info.pool = pool
        info.filehand = NULL
        info.fname = info.name = NULL
        if self.path is not None:
            info.fname = apr_pstrdup(pool, self.path)
        if self.last is not None:
            info.name = apr_pstrdup(pool, self.last)

    cdef bint has(self, int field):
        return self.info.filetype != APR_NOFILE and self.info.valid & field == field

    @property
    def fname(self):
        """Path of the file."""
        return None if self.path is None else path_text(self.path)

    @property
    def filetype(self):
        """One of APR_NOFILE, APR_REG, APR_DIR, ..."""
        return <int> self.info.filetype

    @property
    def valid(self):
        """Which fields are known, APR_FINFO_* or-ed."""
        return self.info.valid if self.info.filetype != APR_NOFILE else None

    @property
    def protection(self):
        """Permissions as APR has them: in hexadecimal, 0x644 for rw-r--r--."""
        return self.info.protection if self.has(APR_FINFO_PROT) else None

    @property
    def user(self):
        """Number of the owner."""
        return self.info.user if self.has(APR_FINFO_USER) else None

    @property
    def group(self):
        """Number of the group."""
        return self.info.group if self.has(APR_FINFO_GROUP) else None

    @property
    def size(self):
        """Size in bytes."""
        return self.info.size if self.has(APR_FINFO_SIZE) else None

    @property
    def inode(self):
        """Number of the inode."""
        return self.info.inode if self.has(APR_FINFO_INODE) else None

    @property
    def device(self):
        """Number of the device."""
        return self.info.device if self.has(APR_FINFO_DEV) else None

    @property
    def nlink(self):
        """Number of hard links."""
        return self.info.nlink if self.has(APR_FINFO_NLINK) else None

    @property
    def atime(self):
        """Time of the last access, whole seconds since the epoch."""
        return self.info.atime // 1000000 if self.has(APR_FINFO_ATIME) else None

    @property
    def mtime(self):
        """Time of the last modification, whole seconds since the epoch."""
        return self.info.mtime // 1000000 if self.has(APR_FINFO_MTIME) else None

    @property
    def ctime(self):
        """Time of the last change of the inode, whole seconds since the epoch."""
        return self.info.ctime // 1000000 if self.has(APR_FINFO_CTIME) else None

    @property
    def name(self):
        """Name of the file without its directory, in the spelling of the file system."""
        if self.last is None or not self.has(APR_FINFO_NAME):
            return None
        return path_text(self.last)

    def __getitem__(self, index):
        if not isinstance(index, int):
            raise TypeError("file information is indexed with apache.FINFO_*, not %s"
                            % type(index).__name__)
        if not 0 <= index <= 12:
            raise IndexError("file information has no field %s" % index)
        return getattr(self, FINFO_FIELDS[index])

    def __repr__(self):
        return repr({name: getattr(self, name) for name in ("valid", *FINFO_FIELDS)})


# The order of FINFO_*.
FINFO_FIELDS = ("protection", "inode", "device", "nlink", "user", "group", "size",
                "atime", "mtime", "ctime", "fname", "name", "filetype")


cdef Finfo finfo_of(const apr_finfo_t *info):
    cdef Finfo finfo = Finfo.__new__(Finfo)
    finfo.info = info[0]
    finfo.info.pool = NULL
    finfo.info.filehand = NULL
    if info.fname != NULL:
        finfo.path = info.fname
    if info.name != NULL:
        finfo.last = info.name
    finfo.info.fname = finfo.info.name = NULL
    return finfo


def stat(fname, wanted):
    """Information on a file, as httpd sees it.

    Args:
        fname: its name: str, bytes or os.PathLike.
        wanted: which fields, APR_FINFO_* or-ed.  Without APR_FINFO_LINK a symbolic
            link is followed.
    Returns:
        An mp_finfo.  That of a file that does not exist has the filetype
        APR_NOFILE.
    Raises:
        OSError: any other failure.
    """
    cdef bytes name = fs_bytes(fname)
    cdef const char *path = name
    cdef int fields = wanted
    cdef apr_finfo_t info
    cdef apr_pool_t *pool = NULL
    cdef apr_status_t rv
    memset(&info, 0, sizeof(info))
    if apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS:
        raise MemoryError("no memory for file information")
    try:
        with nogil:
            rv = apr_stat(&info, path, fields, pool)
        if rv == ENOENT or rv == ENOTDIR:
            memset(&info, 0, sizeof(info))
            info.filetype = APR_NOFILE
        elif rv != APR_SUCCESS and rv != APR_INCOMPLETE:
            raise os_error(rv, fname)
        info.fname = path
        return finfo_of(&info)
    finally:
        apr_pool_destroy(pool)

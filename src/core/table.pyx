# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Table: an ordered, case-insensitive multimap of strings, over an APR table.
#
# A table belongs to a request, connection or server (`owner` says whose, and
# `which` which one; its address is looked up at every access, because httpd
# replaces tables on the way), or it was made by Python and has a pool of its
# own.  Keys compare without regard to ASCII case, in every operation; never by
# the C library's rules, which an application changes with locale.setlocale().

cdef enum:
    TABLE_OWN = 0
    TABLE_HEADERS_IN
    TABLE_HEADERS_OUT
    TABLE_ERR_HEADERS_OUT
    TABLE_SUBPROCESS_ENV
    TABLE_NOTES
    TABLE_CONN_NOTES
    TABLE_FIXED                 # `table` lives as long as `owner` is attached


cdef class Table:
    """An ordered, case-insensitive table in which a key may occur repeatedly.

    Args:
        items: a mapping, or a sequence of (key, value) pairs.
    """
    cdef object owner
    cdef int which
    cdef apr_table_t *table
    cdef apr_pool_t *pool
    cdef bint changed               # by Python, through this object

    def __cinit__(self):
        self.which = TABLE_OWN

    def __init__(self, items=None):
        if self.which == TABLE_OWN:
            self.own()
            self.clear()
        if items is None:
            return
        if hasattr(items, "keys"):
            self.update(items)
            return
        for n, pair in enumerate(items):
            try:
                pair = tuple(pair)
            except TypeError:
                raise TypeError(
                    "cannot convert table update sequence element #%d to a sequence" % n
                ) from None
            if len(pair) != 2:
                raise ValueError(
                    "table update sequence element #%d has length %d; 2 is required"
                    % (n, len(pair)))
            self[as_text(pair[0])] = as_text(pair[1])

    def __dealloc__(self):
        if self.pool != NULL:
            apr_pool_destroy(self.pool)

    cdef apr_table_t *own(self) except NULL:
        if self.table == NULL:
            if self.pool == NULL \
                    and apr_pool_create_unmanaged_ex(&self.pool, NULL, NULL) != APR_SUCCESS:
                raise MemoryError("no memory for a table")
            self.table = apr_table_make(self.pool, 8)
        return self.table

    cdef apr_table_t *get_table(self) except NULL:
        cdef request_rec *r
        if self.which == TABLE_OWN:
            return self.own()
        if self.which == TABLE_CONN_NOTES:
            return (<ConnectionFacts> self.owner).rec().notes
        if self.which == TABLE_FIXED:
            if isinstance(self.owner, Request):
                (<Request> self.owner).rec()
            return self.table
        if self.which == TABLE_HEADERS_IN:
            return (<RequestIO> self.owner).rec().headers_in
        # Filters change these, without the GIL, while another thread writes.
        r = (<RequestIO> self.owner).to_change()
        if self.which == TABLE_HEADERS_OUT:
            return r.headers_out
        if self.which == TABLE_ERR_HEADERS_OUT:
            return r.err_headers_out
        if self.which == TABLE_SUBPROCESS_ENV:
            return r.subprocess_env
        return r.notes

    cdef apr_table_t *to_change(self) except NULL:
        if isinstance(self.owner, RequestIO):
            (<RequestIO> self.owner).to_change()
        self.changed = True
        return self.get_table()

    cdef bytes text(self, object value):
        """Bytes of a key or value that is to be stored."""
        cdef bytes text = latin1_bytes(value)
        if TABLE_HEADERS_IN <= self.which <= TABLE_ERR_HEADERS_OUT and has_line_end(text):
            raise ValueError("a header cannot contain a line break, which would begin "
                             "another header: %.60r" % value)
        return text

    cdef apr_table_entry_t *entries(self, int *n) except? NULL:
        cdef const apr_array_header_t *a = apr_table_elts(self.get_table())
        n[0] = a.nelts
        return <apr_table_entry_t *> a.elts

    # -- reading

    def __getitem__(self, key):
        cdef bytes k = latin1_bytes(key)
        cdef int n, i
        cdef apr_table_entry_t *e = self.entries(&n)
        cdef object found = None
        cdef int hits = 0
        for i in range(n):
            if e[i].key != NULL and ap_cstr_casecmp(e[i].key, k) == 0:
                hits += 1
                if hits == 1:
                    found = latin1(e[i].val)
                else:
                    if hits == 2:
                        found = [found]
                    (<list> found).append(latin1(e[i].val))
        if not hits:
            raise KeyError(key)
        return found

    def get(self, key, default=None):
        """The first value of key, or default."""
        cdef bytes k = latin1_bytes(key)
        cdef int n, i
        cdef apr_table_entry_t *e = self.entries(&n)
        for i in range(n):
            if e[i].key != NULL and ap_cstr_casecmp(e[i].key, k) == 0:
                return latin1(e[i].val)
        return default

    def __contains__(self, key):
        cdef bytes k = latin1_bytes(key)
        cdef int n, i
        cdef apr_table_entry_t *e = self.entries(&n)
        for i in range(n):
            if e[i].key != NULL and ap_cstr_casecmp(e[i].key, k) == 0:
                return True
        return False

    def has_key(self, key):
        """1 if key is in the table, else 0."""
        return 1 if key in self else 0

    def __len__(self):
        cdef int n
        self.entries(&n)
        return n

    def keys(self):
        """List of the keys, one for each entry."""
        cdef int n, i
        cdef apr_table_entry_t *e = self.entries(&n)
        return [latin1(e[i].key) for i in range(n)]

    def values(self):
        """List of the values, one for each entry."""
        cdef int n, i
        cdef apr_table_entry_t *e = self.entries(&n)
        return [latin1(e[i].val) for i in range(n)]

    def items(self):
        """List of the (key, value) pairs, one for each entry."""
        cdef int n, i
        cdef apr_table_entry_t *e = self.entries(&n)
        return [(latin1(e[i].key), latin1(e[i].val)) for i in range(n)]

    def __iter__(self):
        return self.iterkeys()

    def iterkeys(self):
        """Iterator over the keys in order."""
        return TableIterator(self, 0)

    def itervalues(self):
        """Iterator over the values in order."""
        return TableIterator(self, 1)

    def iteritems(self):
        """Iterator over the (key, value) pairs in order."""
        return TableIterator(self, 2)

    # -- changing

    def __setitem__(self, key, value):
        cdef bytes k = self.text(key)
        cdef bytes v = self.text(value)
        apr_table_set(self.to_change(), k, v)

    def __delitem__(self, key):
        cdef bytes k = latin1_bytes(key)
        apr_table_unset(self.to_change(), k)

    def add(self, key, value):
        """Append an entry, keeping those that key has already."""
        cdef bytes k = self.text(key)
        cdef bytes v = self.text(value)
        apr_table_add(self.to_change(), k, v)

    cdef int append(self, Table other) except -1:
        """Append all entries of another table."""
        cdef apr_table_t *t = self.to_change()
        cdef bytes k, v
        for key, value in other.items():
            k = self.text(key)
            if value is None:               # stored as NULL: stays so
                apr_table_add(t, k, NULL)
            else:
                v = self.text(value)
                apr_table_add(t, k, v)
        return 0

    def setdefault(self, key, default=""):
        """The first value of key; if it is missing, default, which is stored."""
        value = self.get(key, self)
        if value is self:
            self[key] = default
            return self.get(key)
        return value

    def popitem(self):
        """Remove the last entry and return it as (key, value).

        Raises:
            KeyError: the table is empty.
        """
        cdef int n, i
        cdef apr_table_entry_t *e = self.entries(&n)
        cdef apr_table_entry_t *rest
        cdef apr_table_t *t
        if n == 0:
            raise KeyError("popitem(): table is empty")
        n -= 1
        pair = (latin1(e[n].key), latin1(e[n].val))
        t = self.to_change()
        for i in range(n):
            if ap_cstr_casecmp(e[i].key, e[n].key) == 0:
                break
        else:
            apr_table_unset(t, e[n].key)
            return pair
        # The key occurs before, and APR can only remove all of its entries: put
        # back the others, the same strings.
        rest = <apr_table_entry_t *> malloc(n * sizeof(apr_table_entry_t))
        if rest == NULL:
            raise MemoryError("no memory for a table")
        memcpy(rest, e, n * sizeof(apr_table_entry_t))
        apr_table_clear(t)
        for i in range(n):
            apr_table_addn(t, rest[i].key, rest[i].val)
        free(rest)
        return pair

    def update(self, mapping):
        """Set every key of a mapping; what is no str or bytes goes through str().

        Keys that occur repeatedly in another table keep all their values.

        Raises:
            AttributeError: the argument has no keys().
        """
        if isinstance(mapping, Table):
            if mapping is not self:
                for key in mapping.keys():
                    del self[key]
                self.append(<Table> mapping)
            return
        for key in mapping.keys():
            self[as_text(key)] = as_text(mapping[key])

    def clear(self):
        """Remove all entries."""
        cdef apr_table_t *t = self.to_change()
        if self.which == TABLE_OWN:         # give the memory back, too
            self.table = NULL
            apr_pool_clear(self.pool)
        else:
            apr_table_clear(t)

    def copy(self):
        """An independent table with the same entries."""
        cdef Table other = Table()
        other.append(self)
        return other

    # -- the rest of a mapping

    cdef dict as_dict(self):
        """A dict of folded keys to values (a list for repeated keys)."""
        cdef dict result = {}
        for k, v in self.items():
            k = fold(k)
            if k not in result:
                result[k] = v
            elif isinstance(result[k], list):
                result[k].append(v)
            else:
                result[k] = [result[k], v]
        return result

    def __eq__(self, other):
        if isinstance(other, Table):
            return self.as_dict() == (<Table> other).as_dict()
        if not hasattr(other, "keys") or not hasattr(other, "__getitem__"):
            return NotImplemented
        return self.as_dict() == {
            fold(k) if isinstance(k, str) else k: other[k] for k in other.keys()}

    def __ne__(self, other):
        result = self.__eq__(other)
        return result if result is NotImplemented else not result

    __hash__ = None

    def __repr__(self):
        return "{%s}" % ", ".join(["%r: %r" % item for item in self.items()])

    def __bool__(self):
        return not apr_is_empty_table(self.get_table())


cdef object as_text(object value):
    """What the constructor and update() make of a key or value."""
    return value if isinstance(value, (str, bytes)) else str(value)


cdef str fold(str key):
    """A key with its ASCII letters in lower case."""
    if key.isascii():
        return key.lower()
    return "".join([c.lower() if c.isascii() else c for c in key])


@cython.internal
cdef class TableIterator:
    cdef Table table
    cdef int kind, at, size

    def __init__(self, Table table, int kind):
        self.table = table
        self.kind = kind
        self.size = len(table)

    def __iter__(self):
        return self

    def __next__(self):
        cdef int n
        cdef apr_table_entry_t *e = self.table.entries(&n)
        if n != self.size:
            self.size = -1
            raise RuntimeError("table changed size during iteration")
        if self.at >= n:
            raise StopIteration
        e += self.at
        self.at += 1
        if self.kind == 0:
            return latin1(e.key)
        if self.kind == 1:
            return latin1(e.val)
        return (latin1(e.key), latin1(e.val))


cdef Table view_table(object owner, int which):
    cdef Table t = Table.__new__(Table)
    t.owner = owner
    t.which = which
    return t


cdef Table fixed_table(object owner, apr_table_t *table):
    cdef Table t = Table.__new__(Table)
    t.owner = owner
    t.which = TABLE_FIXED
    t.table = table
    return t

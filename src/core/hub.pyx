# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Hub: what leads from httpd's connections to an asyncio event loop, and back.
#
# One per interpreter, and everything here runs on its loop's thread, except
# submit().  The asyncio loop watches two descriptors for us:
#
#     wake_fd   connections have arrived, or the child was told to end (suspend.c)
#     poll_fd   an epoll set of our own that holds every connection
#
# A set of our own costs one system call more per turn of the loop, and saves a
# registration, a handle and a call through Python per connection and event; an
# idle connection then costs the loop nothing but a descriptor.
#
# A connection is known to the set by its place in `places` and the number of
# times that place was given away: an event that was fetched before an earlier
# one in the same batch ended the connection is recognised as stale.

cdef enum:
    # How exact time-outs are, in microseconds: at most this late.  One timer of
    # the loop's looks after all connections, for most never time out.
    TIMER_GRAIN = 50000
    LOOK_EVERY = 1                      # seconds, see look()
    # As httpd's lingering close (MAX_SECS_TO_LINGER, SECONDS_TO_LINGER).
    LINGER_US = 30000000
    LINGER_PAUSE_US = 2000000
    LINGER_READ = 16384


cdef struct Place:
    void *conn              # AsyncStream, borrowed: its slot owns it
    uint32_t turn


@cython.internal
cdef class Waiter:
    """What a task waits for; to asyncio's tasks it looks like a future."""
    cdef public bint _asyncio_future_blocking
    cdef Hub hub
    cdef object callback, context
    cdef bint is_done, is_cancelled
    cdef object message

    def get_loop(self):
        return self.hub.loop

    def add_done_callback(self, function, *, context=None):
        if self.is_done:
            self.hub.call_soon(function, self, context=context)
            return
        self.callback = function
        self.context = context

    def remove_done_callback(self, function):
        if self.callback is None or self.callback != function:
            return 0
        self.callback = self.context = None
        return 1

    def done(self):
        return self.is_done

    def cancelled(self):
        return self.is_cancelled

    def cancel(self, msg=None):
        if self.is_done:
            return False
        self.is_cancelled = True
        self.message = msg
        self.later()
        return True

    def result(self):
        if self.is_cancelled:
            from asyncio import CancelledError
            raise CancelledError() if self.message is None else CancelledError(self.message)
        return None

    def exception(self):
        self.result()
        return None

    def __iter__(self):
        """A task yields it; nothing else may."""
        if not self.is_done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def __await__(self):
        return self.__iter__()          # a second name would not fill the type's slot

    cdef int later(self) except -1:
        """The wait is over: go on in the loop's next turn."""
        cdef object function = self.callback
        cdef object context = self.context
        self.is_done = True
        self.callback = self.context = None
        if function is not None:
            self.hub.call_soon(function, self, context=context)
        return 0

    cdef int now(self) except -1:
        """The wait is over: go on at once.  Only from the loop itself, not from a task."""
        cdef object function = self.callback
        cdef object context = self.context
        self.is_done = True
        self.callback = self.context = None
        if function is not None:
            if context is not None:
                context.run(function, self)
            else:
                function(self)
        return 0


cdef class Hub:
    """The connections of one event loop.

    Args:
        entry: of this interpreter.
        loop: the asyncio loop; not running yet, or this is its thread.
        start: called with each connection that arrives.
        on_stop: called with 1 when the child is to end gracefully and with 2
            when it is to end at once.
    Raises:
        OSError: no descriptors are left, or this platform has no epoll.
    """
    cdef Entry entry
    cdef mp_loop *link
    cdef readonly object loop
    cdef object start, on_stop, call_soon
    cdef unsigned long thread
    cdef Place *places
    cdef uint32_t n, room, free_places
    cdef uint32_t *free_list
    cdef readonly object closing
    cdef list arriving, dirty, ending
    cdef object timer
    cdef long long due                  # when the timer fires; 0: it is not set
    cdef int told
    cdef bint has_to_look, looking
    cdef mp_event *events
    cdef readonly int count             # connections between start and end

    def __cinit__(self):
        self.events = <mp_event *> malloc(MP_POLL_MOST * sizeof(mp_event))
        if self.events == NULL:
            raise MemoryError("no memory for an event loop's events")

    def __init__(self, Entry entry not None, loop, start, on_stop, closing):
        self.link = mp_loop_make()
        if self.link == NULL:
            raise OSError(errno, "no event loop for coroutine handlers: %s" % error_text(errno))
        self.entry = entry
        self.loop = loop
        self.call_soon = loop.call_soon
        self.start = start
        self.on_stop = on_stop
        self.closing = closing
        self.arriving = []
        self.dirty = []
        self.ending = []
        self.has_to_look = mp_loop_has_to_look()

    def __dealloc__(self):
        free(self.events)
        free(self.places)
        free(self.free_list)

    def attach(self):
        """Begin; to be called on the loop's thread."""
        self.thread = PyThread_get_thread_ident()
        self.loop.add_reader(self.link.wake_fd, self.on_wake)
        self.loop.add_reader(self.link.poll_fd, self.on_events)
        self.on_wake()

    def detach(self):
        """End; to be called on the loop's thread, which goes on no more."""
        cdef uint32_t i
        cdef AsyncStream conn
        self.loop.remove_reader(self.link.wake_fd)
        self.loop.remove_reader(self.link.poll_fd)
        # Whose handler has ended is not left to the end of the process: other
        # modules' clean-ups of a connection have to run, too.
        for i in range(self.n):
            if self.places[i].conn != NULL:
                conn = <AsyncStream> self.places[i].conn
                if conn.lingering:
                    self.end(conn)
        self.end_more()

    @property
    def most(self):
        """How many connections a child can hold, by the MPM's settings; 0: not known."""
        return mp_most_connections()

    # -- arrival --------------------------------------------------------------

    def on_wake(self):
        """Something was put where wake_fd leads to."""
        cdef mp_record *record
        cdef mp_slot *slot
        cdef int stop
        mp_loop_woken(self.link)
        record = mp_loop_take(self.link)
        while record != NULL:
            slot = mp_conn_slot(record.c, self.entry.interp)
            record = record.next_arrived
            if slot != NULL and slot.object != NULL:
                self.arriving.append(<object> slot.object)
        if self.arriving:
            self.welcome()
        stop = mp_loop_stopping()
        if stop > self.told:
            self.told = stop
            self.on_stop(stop)

    def welcome(self):
        """Start the connections that the workers have let go of."""
        cdef AsyncStream conn
        cdef list still = []
        cdef list all_ = self.arriving
        self.arriving = []
        for conn in all_:
            if conn.c == NULL:
                continue                # its thread has given up already
            if not mp_is_released(mp_conn_record(conn.c)):
                still.append(conn)
                continue
            self.count += 1
            conn.begin()
            self.start(conn)
        if self.has_to_look and self.count and not self.looking:
            self.looking = True
            self.loop.call_later(LOOK_EVERY, self.look)
        if still:
            # A matter of nanoseconds, unless the worker was interrupted just now.
            self.arriving += still
            self.call_soon(self.welcome)

    def look(self):
        """Find out for oneself whether the child is to end; as long as there are connections."""
        self.looking = False
        if self.told:
            return
        mp_loop_look()
        if self.count:
            self.looking = True
            self.loop.call_later(LOOK_EVERY, self.look)

    # -- places ---------------------------------------------------------------

    cdef int enter(self, AsyncStream conn) except -1:
        cdef uint32_t room
        cdef void *more
        if self.free_places:
            self.free_places -= 1
            conn.place = self.free_list[self.free_places]
        else:
            if self.n == self.room:
                room = self.room * 2 if self.room else 64
                more = realloc(self.places, room * sizeof(Place))
                if more == NULL:
                    raise MemoryError("no memory for a connection's place")
                self.places = <Place *> more
                more = realloc(self.free_list, room * sizeof(uint32_t))
                if more == NULL:
                    raise MemoryError("no memory for a connection's place")
                self.free_list = <uint32_t *> more
                memset(self.places + self.room, 0, (room - self.room) * sizeof(Place))
                self.room = room
            conn.place = self.n
            self.n += 1
        self.places[conn.place].conn = <void *> conn
        conn.has_place = True
        return 0

    cdef int leave(self, AsyncStream conn) except -1:
        if not conn.has_place:
            return 0
        conn.has_place = False
        self.places[conn.place].conn = NULL
        self.places[conn.place].turn += 1
        self.free_list[self.free_places] = conn.place
        self.free_places += 1
        return 0

    cdef unsigned long long tag(self, AsyncStream conn):
        return (<unsigned long long> self.places[conn.place].turn << 32) | conn.place

    # -- events ---------------------------------------------------------------

    def on_events(self):
        """Connections can be read from or written to."""
        cdef int i, n
        cdef uint32_t place
        cdef AsyncStream conn
        n = mp_poll_get(self.link, self.events, MP_POLL_MOST)
        for i in range(n):
            place = <uint32_t> self.events[i].tag
            if place >= self.n or self.places[place].conn == NULL \
                    or self.places[place].turn != <uint32_t> (self.events[i].tag >> 32):
                continue
            conn = <AsyncStream> self.places[place].conn
            conn.on_event(self.events[i].what)

    # -- output that a task other than the handler's has written ------------------

    cdef int note_dirty(self, AsyncStream conn) except -1:
        if not self.dirty:
            self.call_soon(self.flush_dirty)
        self.dirty.append(conn)
        return 0

    def flush_dirty(self):
        """Send what was written in this turn of the loop."""
        cdef AsyncStream conn
        cdef list dirty = self.dirty
        self.dirty = []
        for conn in dirty:
            conn.is_dirty = False
            conn.push()

    # -- time-outs --------------------------------------------------------------

    cdef int watch(self, long long deadline) except -1:
        """Have the timer fire no later than that."""
        cdef long long now
        if self.due and self.due <= deadline + TIMER_GRAIN:
            return 0
        if self.timer is not None:
            self.timer.cancel()
        now = now_us()
        self.due = max(deadline, now + TIMER_GRAIN // 5)
        self.timer = self.loop.call_later((self.due - now) / 1e6, self.on_timer)
        return 0

    def on_timer(self):
        """Find the connections whose time is up."""
        cdef long long now = now_us(), next_ = 0
        cdef uint32_t i
        cdef AsyncStream conn
        cdef list late = []
        self.timer = None
        self.due = 0
        for i in range(self.n):
            if self.places[i].conn == NULL:
                continue
            conn = <AsyncStream> self.places[i].conn
            for deadline in (conn.in_due, conn.out_due):
                if deadline and deadline <= now:
                    late.append(conn)
                    break
            else:
                if conn.in_due and (not next_ or conn.in_due < next_):
                    next_ = conn.in_due
                if conn.out_due and (not next_ or conn.out_due < next_):
                    next_ = conn.out_due
        if next_:
            self.watch(max(next_, now + TIMER_GRAIN))
        for conn in late:
            conn.on_late(now)

    # -- the end of connections -----------------------------------------------------

    cdef int end(self, AsyncStream conn) except -1:
        """Free a connection, as soon as its worker cannot touch it any more."""
        cdef mp_record *record = mp_conn_record(conn.c)
        self.leave(conn)
        if not mp_has_left(record):
            conn.close_socket()             # the peer need not wait for that
            if not self.ending:
                self.loop.call_later(0.005, self.end_more)
            self.ending.append(conn)
            return 0
        conn.free()
        return 0

    def end_more(self):
        """Free those that had to wait."""
        cdef AsyncStream conn
        cdef list ending = self.ending
        self.ending = []
        for conn in ending:
            if conn.c != NULL:
                self.end(conn)

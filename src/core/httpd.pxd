# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Every name of httpd, APR and the shell that the core uses.  Structures list
# only the members we touch; the C compiler knows the rest.

from libc.stdint cimport uint32_t


cdef extern from "apr.h" nogil:
    ctypedef long apr_off_t
    ctypedef long long apr_int64_t
    ctypedef size_t apr_size_t
    ctypedef unsigned short apr_port_t


cdef extern from "apr_errno.h" nogil:
    ctypedef int apr_status_t
    enum:
        APR_SUCCESS
        APR_EOF
        APR_EAGAIN
        APR_TIMEUP
        APR_ECONNRESET
        APR_ECONNABORTED
        APR_EPIPE
        APR_EGENERAL
        APR_ENOMEM
        APR_INCOMPLETE
    bint APR_STATUS_IS_EAGAIN(apr_status_t)
    bint APR_STATUS_IS_EOF(apr_status_t)
    bint APR_STATUS_IS_TIMEUP(apr_status_t)
    bint APR_STATUS_IS_ECONNRESET(apr_status_t)
    bint APR_STATUS_IS_ECONNABORTED(apr_status_t)
    bint APR_STATUS_IS_EPIPE(apr_status_t)
    bint APR_STATUS_IS_EBUSY(apr_status_t)
    char *apr_strerror(apr_status_t, char *buf, apr_size_t)


cdef extern from "apr_pools.h" nogil:
    ctypedef struct apr_pool_t:
        pass
    apr_status_t apr_pool_create(apr_pool_t **, apr_pool_t *)
    apr_status_t apr_pool_create_unmanaged_ex(apr_pool_t **, void *, void *)
    void apr_pool_destroy(apr_pool_t *)
    void apr_pool_clear(apr_pool_t *)


cdef extern from "apr_strings.h" nogil:
    char *apr_pstrdup(apr_pool_t *, const char *)
    char *apr_pstrmemdup(apr_pool_t *, const char *, apr_size_t)


cdef extern from "apr_time.h" nogil:
    ctypedef long long apr_time_t
    ctypedef long long apr_interval_time_t


cdef extern from "apr_user.h" nogil:
    ctypedef unsigned int apr_uid_t
    ctypedef unsigned int apr_gid_t


cdef extern from "apr_file_info.h" nogil:
    ctypedef enum apr_filetype_e:
        APR_NOFILE
        APR_REG
        APR_DIR
    enum:
        APR_FINFO_MTIME
        APR_FINFO_CTIME
        APR_FINFO_ATIME
        APR_FINFO_SIZE
        APR_FINFO_DEV
        APR_FINFO_INODE
        APR_FINFO_NLINK
        APR_FINFO_TYPE
        APR_FINFO_USER
        APR_FINFO_GROUP
        APR_FINFO_PROT
        APR_FINFO_NAME
    ctypedef struct apr_finfo_t:
        apr_pool_t *pool
        int valid
        int protection
        apr_filetype_e filetype
        apr_uid_t user
        apr_gid_t group
        unsigned long inode
        unsigned long device
        int nlink
        apr_off_t size
        apr_time_t atime
        apr_time_t mtime
        apr_time_t ctime
        const char *fname
        const char *name
        void *filehand
    apr_status_t apr_stat(apr_finfo_t *, const char *, int wanted, apr_pool_t *)


cdef extern from "apr_file_io.h" nogil:
    ctypedef struct apr_file_t:
        pass
    enum:
        APR_FOPEN_READ
        APR_FOPEN_BINARY
        APR_FOPEN_LARGEFILE
        APR_FPROT_OS_DEFAULT
    apr_status_t apr_file_open(apr_file_t **, const char *, int flags, int perm, apr_pool_t *)
    apr_status_t apr_file_close(apr_file_t *)
    apr_status_t apr_file_info_get(apr_finfo_t *, int wanted, apr_file_t *)


cdef extern from "apr_uri.h" nogil:
    ctypedef struct apr_uri_t:
        char *scheme
        char *hostinfo
        char *user
        char *password
        char *hostname
        char *port_str
        char *path
        char *query
        char *fragment
        apr_port_t port


cdef extern from "apr_tables.h" nogil:
    ctypedef struct apr_array_header_t:
        int nelts
        char *elts
    ctypedef struct apr_table_t:
        pass
    ctypedef struct apr_table_entry_t:
        char *key
        char *val
    const apr_array_header_t *apr_table_elts(const apr_table_t *)
    bint apr_is_empty_table(const apr_table_t *)
    apr_table_t *apr_table_make(apr_pool_t *, int)
    void apr_table_clear(apr_table_t *)
    const char *apr_table_get(const apr_table_t *, const char *)
    void apr_table_set(apr_table_t *, const char *, const char *)
    void apr_table_setn(apr_table_t *, const char *, const char *)
    void apr_table_unset(apr_table_t *, const char *)
    void apr_table_add(apr_table_t *, const char *, const char *)
    void apr_table_addn(apr_table_t *, const char *, const char *)


cdef extern from "apr_network_io.h" nogil:
    ctypedef struct apr_socket_t:
        pass
    ctypedef struct apr_sockaddr_t:
        apr_port_t port
    ctypedef enum apr_shutdown_how_e:
        APR_SHUTDOWN_READ
        APR_SHUTDOWN_WRITE
        APR_SHUTDOWN_READWRITE
    apr_status_t apr_socket_timeout_get(apr_socket_t *, apr_interval_time_t *)
    apr_status_t apr_socket_timeout_set(apr_socket_t *, apr_interval_time_t)
    apr_status_t apr_socket_shutdown(apr_socket_t *, apr_shutdown_how_e)
    apr_status_t apr_socket_close(apr_socket_t *)


cdef extern from "apr_portable.h" nogil:
    ctypedef int apr_os_sock_t
    apr_status_t apr_os_sock_get(apr_os_sock_t *, apr_socket_t *)


cdef extern from "apr_buckets.h" nogil:
    ctypedef enum apr_read_type_e:
        APR_BLOCK_READ
        APR_NONBLOCK_READ
    ctypedef struct apr_bucket_alloc_t:
        pass
    ctypedef struct apr_bucket:
        apr_size_t length
    ctypedef struct apr_bucket_brigade:
        apr_pool_t *p
    bint APR_BRIGADE_EMPTY(apr_bucket_brigade *)
    apr_bucket *APR_BRIGADE_FIRST(apr_bucket_brigade *)
    apr_bucket *APR_BRIGADE_SENTINEL(apr_bucket_brigade *)
    apr_size_t UNKNOWN_LENGTH "((apr_size_t)-1)"
    void APR_BRIGADE_INSERT_TAIL(apr_bucket_brigade *, apr_bucket *)
    void APR_BUCKET_REMOVE(apr_bucket *)
    bint APR_BUCKET_IS_EOS(apr_bucket *)
    bint APR_BUCKET_IS_FLUSH(apr_bucket *)
    bint APR_BUCKET_IS_HEAP(apr_bucket *)
    bint APR_BUCKET_IS_TRANSIENT(apr_bucket *)
    bint APR_BUCKET_IS_IMMORTAL(apr_bucket *)
    bint APR_BUCKET_IS_POOL(apr_bucket *)
    bint APR_BUCKET_IS_METADATA(apr_bucket *)
    apr_bucket *APR_BUCKET_NEXT(apr_bucket *)
    apr_bucket *APR_BUCKET_PREV(apr_bucket *)
    apr_status_t apr_bucket_read(apr_bucket *, const char **, apr_size_t *, apr_read_type_e)
    void apr_bucket_delete(apr_bucket *)
    apr_status_t apr_bucket_split(apr_bucket *, apr_size_t)
    apr_bucket *apr_bucket_transient_create(const char *, apr_size_t, apr_bucket_alloc_t *)
    apr_bucket *apr_bucket_flush_create(apr_bucket_alloc_t *)
    apr_bucket *apr_bucket_eos_create(apr_bucket_alloc_t *)
    apr_bucket_brigade *apr_brigade_create(apr_pool_t *, apr_bucket_alloc_t *)
    apr_bucket *apr_brigade_insert_file(apr_bucket_brigade *, apr_file_t *, apr_off_t,
                                        apr_off_t, apr_pool_t *)
    bint APR_BUCKET_IS_FILE(apr_bucket *)
    apr_status_t apr_bucket_file_enable_mmap(apr_bucket *, int)
    apr_status_t apr_brigade_cleanup(void *)
    apr_status_t apr_brigade_write(apr_bucket_brigade *, void *flush, void *ctx,
                                   const char *, apr_size_t)


cdef extern from "httpd.h" nogil:
    enum:
        OK
        DECLINED
        DONE
        HTTP_BAD_REQUEST
        HTTP_INTERNAL_SERVER_ERROR
        AP_FILTER_ERROR
        HTTP_BAD_GATEWAY
        PROXYREQ_PROXY
        M_INVALID
    ctypedef struct ap_method_list_t:
        apr_int64_t method_mask
        apr_array_header_t *method_list
    int ap_cstr_casecmp(const char *, const char *)
    ctypedef struct server_addr_rec:
        pass
    ctypedef struct process_rec:
        pass
    ctypedef struct ap_logconf:
        int level
    ctypedef struct server_rec:
        process_rec *process
        server_rec *next
        const char *error_fname
        ap_logconf log
        const char *defn_name
        unsigned int defn_line_number
        bint is_virtual
        apr_port_t port
        const char *server_scheme
        char *server_admin
        char *server_hostname
        apr_array_header_t *names
        apr_array_header_t *wild_names
        apr_interval_time_t timeout
        apr_interval_time_t keep_alive_timeout
        int keep_alive_max
        int keep_alive
        const char *path
        int pathlen
        int limit_req_line
        int limit_req_fieldsize
        int limit_req_fields
    ctypedef enum ap_conn_keepalive_e:
        AP_CONN_UNKNOWN
        AP_CONN_CLOSE
        AP_CONN_KEEPALIVE
    ctypedef struct ap_filter_rec_t:
        const char *name
    ctypedef struct request_rec         # below
    ctypedef struct conn_rec
    ctypedef struct ap_filter_t:
        ap_filter_rec_t *frec
        void *ctx
        ap_filter_t *next
        request_rec *r
        conn_rec *c
    ctypedef struct conn_rec:
        apr_pool_t *pool
        server_rec *base_server
        apr_sockaddr_t *local_addr
        char *local_ip
        apr_sockaddr_t *client_addr
        char *client_ip
        char *remote_host
        char *remote_logname
        char *local_host
        long id
        apr_table_t *notes
        ap_filter_t *input_filters
        ap_filter_t *output_filters
        apr_bucket_alloc_t *bucket_alloc
        bint aborted
        ap_conn_keepalive_e keepalive
        int double_reverse
        int keepalives
        conn_rec *master
        int data_in_output_filters
    ctypedef struct request_rec:
        apr_pool_t *pool
        conn_rec *connection
        server_rec *server
        request_rec *next
        request_rec *prev
        request_rec *main
        char *the_request
        int assbackwards
        int proxyreq
        int header_only
        int proto_num
        char *protocol
        const char *hostname
        apr_time_t request_time
        const char *status_line
        int status
        int method_number
        const char *method
        apr_int64_t allowed
        apr_array_header_t *allowed_xmethods
        ap_method_list_t *allowed_methods
        apr_off_t sent_bodyct
        apr_off_t bytes_sent
        apr_time_t mtime
        const char *range
        apr_off_t clength
        int chunked
        int read_body
        int read_chunked
        unsigned int expecting_100
        apr_off_t read_length
        apr_table_t *headers_in
        apr_table_t *headers_out
        apr_table_t *err_headers_out
        apr_table_t *subprocess_env
        apr_table_t *notes
        const char *content_type
        const char *handler
        const char *content_encoding
        apr_array_header_t *content_languages
        char *vlist_validator
        char *user
        char *ap_auth_type
        char *unparsed_uri
        char *uri
        char *filename
        char *canonical_filename
        char *path_info
        char *args
        int used_path_info
        int eos_sent
        void *per_dir_config
        int no_cache
        int no_local_copy
        apr_uri_t parsed_uri
        apr_finfo_t finfo
        apr_sockaddr_t *useragent_addr
        ap_filter_t *output_filters
        ap_filter_t *input_filters
        const char *useragent_ip


cdef extern from "http_core.h" nogil:
    ctypedef struct core_ctx_t:
        apr_bucket_brigade *b
    ctypedef struct core_net_rec:
        core_ctx_t *in_ctx
    ctypedef struct core_dir_config:
        unsigned int enable_sendfile
        unsigned int hostname_lookups
        unsigned int use_canonical_name
    enum:
        HOSTNAME_LOOKUP_ON
        HOSTNAME_LOOKUP_DOUBLE
        USE_CANONICAL_NAME_DNS
    core_dir_config *ap_get_core_module_config(const void *)
    int AP_SENDFILE_ENABLED(unsigned int)
    apr_socket_t *ap_get_conn_socket(conn_rec *)
    const char *ap_document_root(request_rec *)
    const char *ap_get_useragent_host(request_rec *, int type, int *str_is_ip)
    char *ap_construct_url(apr_pool_t *, const char *uri, request_rec *)
    const char *ap_auth_type(request_rec *)
    const char *ap_auth_name(request_rec *)
    int ap_exists_config_define(const char *)


cdef extern from "scoreboard.h" nogil:
    ctypedef struct global_score:
        apr_time_t restart_time
    ctypedef struct scoreboard:
        global_score *global_ "global"
    scoreboard *ap_scoreboard_image


cdef extern from "ap_mmn.h" nogil:
    enum:
        MMN_MAJOR "MODULE_MAGIC_NUMBER_MAJOR"
        MMN_MINOR "MODULE_MAGIC_NUMBER_MINOR"


cdef extern from "ap_mpm.h" nogil:
    enum:
        AP_MPMQ_GENERATION
        AP_MPMQ_IS_FORKED
        AP_MPMQ_IS_THREADED
    apr_status_t ap_mpm_query(int, int *)


cdef extern from "http_main.h" nogil:
    pass


cdef extern from "http_config.h" nogil:
    ctypedef struct module:
        pass
    module *ap_find_linked_module(const char *)
    const char *ap_server_root_relative(apr_pool_t *, const char *)
    ctypedef struct ap_directive_t:
        const char *directive
        const char *args
        const char *filename
        int line_num
        ap_directive_t *next
        ap_directive_t *first_child
    ap_directive_t *ap_conftree
    const char *ap_server_root


cdef extern from "http_protocol.h" nogil:
    void ap_set_content_type(request_rec *, const char *)
    void ap_set_content_length(request_rec *, apr_off_t)
    void ap_set_etag(request_rec *)
    void ap_set_last_modified(request_rec *)
    int ap_meets_conditions(request_rec *)
    int ap_discard_request_body(request_rec *)
    void ap_method_list_add(ap_method_list_t *, const char *)
    void ap_clear_method_list(ap_method_list_t *)
    int ap_map_http_request_error(apr_status_t, int)
    const char *ap_get_status_line(int)
    apr_bucket *ap_bucket_error_create(int, const char *, apr_pool_t *, apr_bucket_alloc_t *)


cdef extern from "http_request.h" nogil:
    void ap_internal_redirect(const char *, request_rec *)
    void ap_update_mtime(request_rec *, apr_time_t)


cdef extern from "util_script.h" nogil:
    void ap_add_common_vars(request_rec *)
    int ap_find_path_info(const char *uri, const char *path_info)


cdef extern from "http_ssl.h" nogil:
    int ap_ssl_conn_is_ssl(conn_rec *)
    const char *ap_ssl_var_lookup(apr_pool_t *, server_rec *, conn_rec *,
                                  request_rec *, const char *)


cdef extern from "util_filter.h" nogil:
    ctypedef enum ap_input_mode_t:
        AP_MODE_READBYTES
        AP_MODE_GETLINE
    apr_status_t ap_get_brigade(ap_filter_t *, apr_bucket_brigade *, ap_input_mode_t,
                                apr_read_type_e, apr_off_t)
    apr_status_t ap_pass_brigade(ap_filter_t *, apr_bucket_brigade *)


cdef extern from "poll.h" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLIN
        POLLOUT
    int poll(pollfd *, unsigned long, int)


cdef extern from "sys/socket.h" nogil:
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        SHUT_RD
    ssize_t recv(int, void *, size_t, int)
    ssize_t send(int, const void *, size_t, int)
    int shutdown(int, int)


cdef extern from "time.h" nogil:
    struct timespec:
        long tv_sec
        long tv_nsec
    enum:
        CLOCK_MONOTONIC
    int clock_gettime(int, timespec *)
    int nanosleep(const timespec *, timespec *)


cdef extern from "pthread.h" nogil:
    ctypedef unsigned long pthread_t
    pthread_t pthread_self()
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_trylock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)


cdef extern from "shell.h" nogil:
    enum mp_phase:
        MP_ACCESS
        MP_LOG
        MP_CLEANUP
        MP_REQUEST_PHASES
        MP_CONNECTION
        MP_PHASES
    const char *const mp_phase_names[]
    enum mp_section_kind:
        MP_SECTION_SERVER
        MP_SECTION_DIRECTORY
        MP_SECTION_DIRECTORY_MATCH
        MP_SECTION_HTACCESS
        MP_SECTION_LOCATION
        MP_SECTION_LOCATION_MATCH
    ctypedef struct mp_section:
        mp_section_kind kind
        const char *path
        const char *directory
    ctypedef struct mp_handler:
        const char *text
        const mp_section *section
        int silent
    ctypedef struct mp_hlist:
        uint32_t id
        int n
        mp_handler *handlers
    ctypedef struct mp_options:
        pass
    ctypedef struct mp_dir_conf:
        const mp_options *options
        const char *python_path
        int debug
        int autoreload
        int enable_pdb
    ctypedef struct mp_server_conf:
        apr_table_t *options
        apr_table_t *config
        const char *python_path
        int debug
        int autoreload
        int enable_pdb
    ctypedef struct mp_import:
        const char *text
        const char *interpreter
    ctypedef struct mp_interp:
        pass
    ctypedef struct mp_slot:
        mp_interp *interp
        void *object
        apr_off_t queued
        int type_set
    enum mp_what:
        MP_CALL_REQUEST
        MP_CALL_CONNECTION
        MP_CALL_IMPORT
        MP_CALL_DETACH
        MP_CALL_CLEANUP
        MP_CALL_PRE_CONNECTION
        MP_CALL_SERVER
        MP_CALL_PASSWORD
        MP_CALL_REALM
        MP_CALL_AUTHORIZE
        MP_CALL_SSI
        MP_CALL_EXIT
        MP_CALL_FILTER
        MP_CALL_OBJECT
    ctypedef struct mp_object:
        request_rec *r
        conn_rec *c
        server_rec *s
        void *object
    ctypedef struct mp_call:
        mp_phase phase
        request_rec *r
        conn_rec *c
        const mp_hlist *list
        const char *ext
        apr_bucket_brigade *rest
        int absent
    ctypedef struct mp_server_call:
        mp_phase phase
        server_rec *s
        const mp_hlist *list
    ctypedef struct mp_ssi_call:
        request_rec *r
        const char *code
        int exec_ "exec"
        apr_bucket_brigade *out
    ctypedef struct mp_auth_call:
        request_rec *r
        const mp_hlist *list
        const char *one
        const char *two
        const char *result
    int MP_AUTH_NO, MP_AUTH_YES, MP_AUTH_UNKNOWN
    mp_dir_conf *mp_dir_conf_of(const request_rec *)
    mp_server_conf *mp_server_conf_of(const server_rec *)
    apr_table_t *mp_config_table(apr_pool_t *, const mp_dir_conf *)
    const char *mp_option(const mp_options *, const char *)
    apr_table_t *mp_options_table(apr_pool_t *, const mp_options *)
    const char *mp_handler_directory(apr_pool_t *, const mp_section *, const char *)
    const char *mp_handler_location(apr_pool_t *, const mp_section *, const char *)
    const char *mp_interp_name(const mp_interp *)
    mp_interp *mp_interp_current()
    server_rec *mp_main_server()
    mp_slot *mp_conn_slot(conn_rec *, mp_interp *)
    mp_slot *mp_request_slot(request_rec *, mp_interp *)
    void mp_add_dynamic(request_rec *, mp_slot *, mp_phase)
    int mp_seen_later(request_rec *)
    void mp_frame(request_rec *)
    void mp_check_body(request_rec *)
    void mp_keep_from_caches(request_rec *)
    void mp_claim_user(request_rec *, char *, char *)
    void mp_add_cleanups(request_rec *, mp_slot *)
    void mp_guard_head(request_rec *, int)
    void mp_gate_out() nogil
    void mp_gate_in() nogil
    int MP_WAIT_STOP
    int mp_wait_readable(int, int) nogil
    void mp_end_if_forked() nogil
    ctypedef struct mp_loop:
        int wake_fd
        int poll_fd
    ctypedef struct mp_record:
        conn_rec *c
        mp_loop *loop
        mp_record *next_arrived
        int suspended
    ctypedef struct mp_event:
        unsigned long long tag
        int what
    enum:
        MP_STOP_GRACEFUL
        MP_STOP_NOW
        MP_POLL_IN
        MP_POLL_OUT
        MP_POLL_BROKEN
        MP_POLL_MOST
    mp_record *mp_conn_record(const conn_rec *)
    mp_loop *mp_loop_make()
    void mp_loop_wake(mp_loop *)
    void mp_loop_woken(mp_loop *)
    int mp_loop_stopping()
    int mp_loop_has_to_look()
    void mp_loop_look()
    int mp_claim_asyncio()
    void mp_loop_add(mp_loop *, mp_record *)
    mp_record *mp_loop_take(mp_loop *)
    void mp_loop_remove(mp_loop *, const mp_record *)
    int mp_most_connections()
    int mp_can_suspend(conn_rec *)
    int mp_suspend(conn_rec *, mp_loop *)
    int mp_is_released(const mp_record *)
    int mp_has_left(const mp_record *)
    int mp_begin_linger(conn_rec *)
    void mp_end_connection(conn_rec *)
    apr_status_t mp_push(conn_rec *, apr_bucket_brigade *, const char *, apr_size_t)
    int mp_is_core_output(conn_rec *)
    void mp_useragent(conn_rec *, apr_pool_t *, const char **, int *)
    int mp_poll_set(mp_loop *, int, int, int, unsigned long long)
    int mp_poll_get(mp_loop *, mp_event *, int)
    int mp_signal_make()
    int mp_lock_count() nogil
    apr_status_t mp_lock_take(int, int) nogil
    apr_status_t mp_lock_release(int) nogil
    apr_status_t mp_give_back(conn_rec *, const char *, apr_size_t)
    void mp_count_input(conn_rec *, apr_off_t)
    void mp_count_output(conn_rec *, apr_off_t)
    void mp_log_server(const server_rec *, int, const char *)
    void mp_log_conn(const conn_rec *, int, const char *)
    void mp_log_request(const request_rec *, int, const char *)
    void mp_count_wrappers "MP_COUNT_WRAPPERS"(int)
    void mp_count_brigades "MP_COUNT_BRIGADES"(int)


cdef extern from "filters.h" nogil:
    ctypedef struct mp_filter_run:
        mp_slot slot
        ap_filter_t *f
        const char *name
        const mp_handler *handler
        int is_input
        apr_bucket_brigade *in_ "in"
        apr_bucket_brigade *out
        apr_size_t queued
        ap_input_mode_t mode
        apr_read_type_e block
        apr_off_t size
        apr_status_t error
        int disabled
        int closed
        int last
        int ended
        int fetched
        int again
        int progress
        int touched
        int took
        int gave
        int passed
        int large
        int borrowed
    mp_filter_run *mp_add_own_filter(request_rec *, const char *, int, mp_interp *)
    int mp_add_known_filter(request_rec *, const char *, int)
    apr_status_t mp_keep_buckets(apr_bucket_brigade *, apr_pool_t *)
    int mp_output_waits(const mp_filter_run *)
    void mp_queue_mark(mp_filter_run *, apr_bucket *)

/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Filters: what filters.c shares with the core (src/core/filter.pyx).
 */

#ifndef MOD_PYTHON_FILTERS_H
#define MOD_PYTHON_FILTERS_H

#include "shell.h"

#include <apr_buckets.h>
#include <util_filter.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Header fields of a response, or NULL. */
typedef struct mp_length {
    const char *length;
    const char *md5;
} mp_length;

/* A Python filter in the chain of one request or connection: its context, made
 * on first use in the pool of that request or connection.
 *
 *   over      the stream has ended: no more calls of Python
 *   disabled  data goes through as it is: no more calls of Python
 *
 * Output: `in` is the brigade of the call at hand, `out` what is queued for the next
 * filter; marks to flush stay there until there is data for it.  Input: `in` is what was read from the next filter and not yet by the
 * Python function, `out` what that has written and nobody has asked for yet. */
typedef struct mp_filter_run {
    mp_slot slot;                   /* the interpreter, and the Filter object */
    ap_filter_t *f;
    const char *name;
    const mp_handler *handler;      /* NULL: the object has it (registered by the request) */
    int is_input;
    apr_bucket_brigade *in;
    apr_bucket_brigade *out;
    apr_size_t queued;              /* bytes copied into out */
    ap_input_mode_t mode;           /* input: how to read from the next filter */
    apr_read_type_e block;
    apr_off_t size;
    apr_status_t error;             /* reading or passing on has failed, for good */
    int running;
    int disabled;
    int closed;                     /* by the function */
    int over;
    int last;                       /* output: this call's brigade has the end of the stream */
    int ended;                      /* input: the next filter has come to its end */
    int fetched;                    /* input: this call has read from the next filter */
    int again;                      /* input: ... which had nothing and did not wait */
    int progress;                   /* input: this call has read or written something */
    int touched;                    /* the function has read or written */
    int took;                       /* ... read in this call */
    int gave;                       /* ... written in this call */
    int passed;                     /* something went to the next filter */
    int large;                      /* output: this call's data on disk is read in pieces */
    int warned;
    mp_length own;                  /* output: what the function has left in the headers */
    int borrowed;                   /* out has buckets that last only for this call */
    int started;
} mp_filter_run;

/* Results of MP_CALL_FILTER; anything else means that Python could not be called. */
#define MP_FILTER_DONE 0            /* pass on what is queued */
#define MP_FILTER_HOLD 1            /* it may wait for the next call */

/* Put a filter into a request's chain.  Callable with the GIL held. */

/* One that the request registered; the caller fills in slot.object. */
MP_API mp_filter_run *mp_add_own_filter(request_rec *r, const char *name, int is_input,
                                        mp_interp *interp);
/* One that httpd knows by that name (in lower case); 0 if it does not. */
MP_API int mp_add_known_filter(request_rec *r, const char *name, int is_input);

/* Keep the buckets of a brigade beyond the call they came in. */
MP_API apr_status_t mp_keep_buckets(apr_bucket_brigade *bb, apr_pool_t *pool);

/* Whether what is queued for the next filter had better wait: the head of the response
 * would leave with it. */
MP_API int mp_output_waits(const mp_filter_run *run);
/* Move a metadata bucket to the end of what is queued. */
MP_API void mp_queue_mark(mp_filter_run *run, apr_bucket *e);

#ifdef __cplusplus
}
#endif

#endif

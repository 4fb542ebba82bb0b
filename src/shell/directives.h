/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Between directives.c and handler_text.c.  Functions that return a text
 * return an error message, or NULL.
 */

#ifndef MOD_PYTHON_DIRECTIVES_H
#define MOD_PYTHON_DIRECTIVES_H

#include "shell.h"

/* "handler [handler ...] [ | .ext [.ext ...] ]" taken apart and checked. */
typedef struct mp_handler_line {
    apr_array_header_t *handlers;       /* const char * */
    apr_array_header_t *extensions;     /* const char *; empty: no restriction */
} mp_handler_line;

/* Is an .htaccess file being read, that is, are we inside a request? */
int mp_in_htaccess(cmd_parms *cmd);

/* The section a directive stands in; conf is that section's configuration. */
const char *mp_section_of(cmd_parms *cmd, mp_dir_conf *conf,
                          const mp_section **section);

/* Checks one handler.  section is NULL where only absolute paths will do. */
const char *mp_check_handler(cmd_parms *cmd, const char *text,
                             const mp_section *section);

/* A list of one handler, which was checked. */
mp_hlist *mp_one_handler(cmd_parms *cmd, const char *text, const mp_section *section);

/* Reads the arguments of a handler directive. */
const char *mp_parse_handlers(cmd_parms *cmd, const char *args,
                              const mp_section *section, int extensions_allowed,
                              mp_handler_line *line);

#endif

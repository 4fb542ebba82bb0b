/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The configuration as httpd has read it, for mod_python's own commands:
 *
 *     httpd -t -D MOD_PYTHON_DUMP_TREE
 *
 * prints a line for each directive, its parts separated by tabs: a mark, the depth, the
 * file, the line in it, the directive, its arguments.  Included files, variables and
 * <IfModule> are resolved then, which nobody else could do alike.
 */

#include "shell.h"

#include <stdio.h>

static void print_tree(const ap_directive_t *d, int depth)
{
    for (; d; d = d->next) {
        printf("mod_python-tree\t%d\t%s\t%d\t%s\t%s\n", depth, d->filename ? d->filename : "",
               d->line_num, d->directive, d->args ? d->args : "");
        print_tree(d->first_child, depth + 1);
    }
}

static void test_config(apr_pool_t *p, server_rec *s)
{
    (void)p;
    (void)s;
    if (ap_exists_config_define("MOD_PYTHON_DUMP_TREE"))
        print_tree(ap_conftree, 0);
    /* Before httpd says on its standard error that all is well: it may be the same file. */
    fflush(stdout);
}

void mp_register_dump(void)
{
    ap_hook_test_config(test_config, NULL, NULL, APR_HOOK_MIDDLE);
}

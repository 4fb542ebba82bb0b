/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The module record: what httpd finds when it loads mod_python.so.
 */

#include "shell.h"

AP_DECLARE_MODULE(python) = {
    STANDARD20_MODULE_STUFF,
    mp_create_dir_conf,
    mp_merge_dir_conf,
    mp_create_server_conf,
    mp_merge_server_conf,
    mp_directives,
    mp_register_hooks,
    /* Every virtual host gets a configuration of its own, also one without a
     * directive of ours: its default interpreter is called like itself. */
    AP_MODULE_FLAG_ALWAYS_MERGE
};

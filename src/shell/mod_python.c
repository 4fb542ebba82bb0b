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
    AP_MODULE_FLAG_NONE
};

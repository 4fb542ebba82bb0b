-- The hello page for mod_lua.
require "apache2"

function handle(r)
    r.content_type = "text/plain"
    r:puts("Hello, world!\n")
    return apache2.OK
end

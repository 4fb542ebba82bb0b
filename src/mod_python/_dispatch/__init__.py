"""The child-side policy of mod_python: what happens once httpd calls Python.

    boot        starts an interpreter: makes its dispatcher
    dispatcher  runs the handlers of a phase, a connection, a PythonImport
    handler     one handler string of the configuration, with its cached resolution
    hlist       what a handler sees as req.hlist
    resolve     from a handler string to the function
    importer    loads and reloads modules by file
    paths       PythonPath
    scope       which request the running code belongs to
    report      exceptions to the error log and the PythonDebug page
    cleanup     what runs when the child exits

Everything here is imported in every interpreter of every httpd child, so it
keeps to modules that a bare interpreter has loaded anyway, and imports the few
heavier ones (traceback, pdb) only when they are needed.
"""

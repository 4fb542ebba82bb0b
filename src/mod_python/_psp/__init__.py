"""The inside of `mod_python.psp`.

scanner    a page, and what it includes, as a list of pieces
generate   the pieces as Python source, and where each of its lines comes from
compiler   the source as a code object whose line numbers are those of the page
pages      compiled pages and their cache
trace      tracebacks that name the included files
display    page and generated code side by side
"""

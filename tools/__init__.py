"""What `make` runs: from a bare machine to an environment, a server, a green test.

    pythons       which Python may be used, and why another may not
    system        what the machine lacks, and how it gets it
    environments  the virtual environments (.venv and those of the tests)
    bootstrap     the command: `python3 -m tools.bootstrap`
    run_tests     every combination of httpd, MPM and Python, one after the other
    check_run     starts `make run` as a newcomer would, talks to it, stops it

The first four run before anything is installed, with whatever Python 3.9 or
later the machine has, so they use the standard library only.
"""

"""What `make` runs: from a bare machine to an environment, a server, a green test.

    pythons       which Python may be used, and why another may not
    system        what the machine lacks, and how it gets it
    environments  the virtual environments (.venv and those of the tests)
    bootstrap     the command: `python3 -m tools.bootstrap`
    check_run     starts `make run` as a newcomer would, talks to it, stops it
    run_tests     the whole suite once: `make test`
    matrix        the suite on every httpd, MPM and Python: `make test-all`
    chroot        the suite in another release of Debian; network_settings: how it reaches the archives
    repeat        the suite again and again, to find tests that depend on chance
    results       the result of a run of the suite, and how it is shown
    pytest_parts  pytest's side of run_tests
    lint          the checks of .pre-commit-config.yaml

The first five run before anything is installed, with whatever Python 3.9 or
later the machine has, so they use the standard library only.
"""

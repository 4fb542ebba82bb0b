"""Benchmarks: mod_python against httpd's own C modules, its predecessor and other Python servers, on one machine.

Run them with ``python -m benchmarks`` from the top of the repository; docs/benchmarks.md explains what is measured
and how to read the tables.

The parts:

- ``tools``    gets what the measurements need: the load generator and the C handler compiled, the Debian packages
               of the peers unpacked privately, an environment for the Python peers
- ``server``   starts and stops one server: a private httpd, or a Python program
- ``peers``    who takes part, and with which configuration
- ``load``     runs the load generator and reads the server's CPU time around it
- ``procfs``   CPU time and memory of processes
- ``rounds``   the interleaved rounds
- ``filters``  a large file through filters
- ``memory``   growth over a million round trips, size of a child after its start
- ``report``   ratios, tables, bars, JSON
- ``profiler`` where the time of our own child goes
- ``cli``      the command line
"""

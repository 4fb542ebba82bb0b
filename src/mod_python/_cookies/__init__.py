"""Cookies: the classes behind `mod_python.Cookie`."""

"""Forms: query strings, fields, uploads.  `mod_python.util` is the public name of what is here."""

# mypy: ignore-errors
"""The hello page as a published function, for both generations of mod_python."""


def hello(req, name="world"):
    req.content_type = "text/plain; charset=utf-8"
    return f"Hello, {name}!\n"

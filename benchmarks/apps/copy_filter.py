# mypy: ignore-errors
"""An output filter that copies."""


def outputfilter(filter):  # noqa: A002
    data = filter.read()
    while data:
        filter.write(data)
        data = filter.read()
    if data is None:
        filter.close()

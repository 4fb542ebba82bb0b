"""What coroutine handlers use of asyncio over httpd's connections."""

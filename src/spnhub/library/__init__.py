"""What the library has in one line: serve an application, join TCP programs, HTTP over connections, the environment.

Built on the endpoints of :mod:`spnhub.transport.endpoint.api` and the agents; programs import all of it from
:mod:`spnhub`.
"""

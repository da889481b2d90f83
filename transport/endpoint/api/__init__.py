"""The endpoint for programs: consumer and provider on asyncio, with options, sockets and clock.

Imports every other room of the endpoint; agents and programs import this one.
"""

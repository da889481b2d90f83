"""What sessions and connections of an endpoint stand on: turns, deadlines, acknowledgements, state tables.

Imports the protocol; knows neither sessions nor connections.
"""

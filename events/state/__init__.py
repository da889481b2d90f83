"""The fold: what a log says that there is. Live actors and every replay change it with the same function.

Imports the event model alone. Nobody but :class:`spnhub.events.state.hub_state.HubState` changes what it holds.
"""

"""The fold: the state that follows from a log. Live actors and every replay change it with the same function.

Imports the event model alone. Only :class:`spnhub.events.state.hub_state.HubState` changes the state.
"""

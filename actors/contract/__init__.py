"""What flows between the actors and the rest: inputs to them, commands from them, codes, definitions of the inventory.

Plain values without behaviour of their own. Imports the event model and, for the packet kinds, the schemas; no other room of the actors.
"""

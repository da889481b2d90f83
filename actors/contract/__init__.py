"""What flows between the actors and the rest: inputs to them, commands from them, packets, codes, definitions.

Plain values without behaviour of their own. Imports the event model and, for the numbers of packet kinds, the schemas;
no other room of the actors.
"""

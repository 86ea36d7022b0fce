"""What people hand in by mistake or by malice, a room a kind: small named functions, and a table.

Each function prepares one case in an empty folder and returns what is to be done then, a function
of the notebook's definitions. A row of a table says what must come of it:

    name: (what is prepared, the type of the error or None, what the message or the output says)
"""
